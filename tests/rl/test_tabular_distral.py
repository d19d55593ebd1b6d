"""Distral in tables, against its equations written out and against fixed points worked out by hand."""

import gymnasium
import numpy as np
import pytest

from keras_mtl import rl


def random_tables(seed=0, states=4, actions=3):
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(actions), size=states)
    return rng.normal(size=(states, actions)), prior


@pytest.mark.oracle
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_value_and_policy_are_the_equations(alpha):
    q, prior = random_tables()
    beta = 2.5
    for s in range(len(q)):
        total = sum(prior[s, a] ** alpha * np.exp(beta * q[s, a]) for a in range(3))
        value = np.log(total) / beta
        assert rl.soft_values(q, prior, alpha, beta)[s] == pytest.approx(value, rel=1e-12)
        expected = [prior[s, a] ** alpha * np.exp(beta * (q[s, a] - value)) for a in range(3)]
        np.testing.assert_allclose(rl.soft_policy(q, prior, alpha, beta)[s], expected, rtol=1e-12)


@pytest.mark.oracle
def test_the_soft_policy_maximizes_the_regularized_reward():
    """`V = max_pi E_pi[Q + alpha/beta log pi_0 - 1/beta log pi]`, and `pi_i` is where the maximum is."""
    q, prior = random_tables(1, states=1)
    alpha, beta = 0.7, 3.0

    def objective(policy):
        return float(policy @ (q[0] + alpha / beta * np.log(prior[0]) - np.log(policy) / beta))

    best = rl.soft_policy(q, prior, alpha, beta)[0]
    assert objective(best) == pytest.approx(float(rl.soft_values(q, prior, alpha, beta)[0]), rel=1e-12)
    for policy in np.random.default_rng(2).dirichlet(np.ones(3), size=200):
        assert objective(policy) <= objective(best)


def test_large_values_do_not_overflow_and_large_beta_is_the_maximum():
    q, prior = random_tables()
    np.testing.assert_allclose(rl.soft_values(1e4 * q, prior, 1.0, 5.0), (1e4 * q).max(-1), rtol=1e-3)
    assert np.isfinite(rl.soft_policy(1e6 * q, prior, 1.0, 5.0)).all()


class Corridor(gymnasium.Env):
    """States in a row; action 1 goes right, 0 left. The last state ends the episode with a reward of 1."""

    def __init__(self, length=4):
        self.observation_space = gymnasium.spaces.Discrete(length)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return self.state, {}

    def step(self, action):
        self.state = max(0, self.state + (1 if action else -1))
        done = self.state == self.observation_space.n - 1
        return self.state, float(done), done, False, {}


@pytest.mark.oracle
def test_q_goes_to_the_fixed_point_of_the_soft_bellman_equation():
    prior = np.broadcast_to(np.array([0.3, 0.7]), (4, 3, 2)).copy()
    options = {"alpha": 0.5, "beta": 4.0, "discount": 0.9}
    learner = rl.TabularDistral(1, 4, 2, prior=prior, learning_rate=1.0, seed=0, **options)
    environment = Corridor()
    for _ in range(150):
        learner.episode(0, environment, max_steps=1000)
    q = np.zeros((4, 2))
    for _ in range(500):  # value iteration, with the equation written out
        v = np.log((np.array([0.3, 0.7]) ** 0.5 * np.exp(4.0 * q)).sum(-1)) / 4.0
        for s in range(3):
            left, right = max(0, s - 1), s + 1
            q[s] = [0.9 * v[left], 1.0 if right == 3 else 0.9 * v[right]]
    np.testing.assert_allclose(learner.q[0], q, atol=1e-3)


@pytest.mark.oracle
def test_distilled_policy_is_the_discounted_counts():
    """Two tasks, one after the other, in a corridor of two states: the counts are those of the steps taken."""
    learner = rl.TabularDistral(2, 2, 2, discount=0.5, smoothing=1.0, seed=3)
    counts, environment = np.ones((2, 3, 2)), Corridor(2)
    taken = []
    step = environment.step
    environment.step = lambda action: (taken.append(action), step(action))[1]
    for task in (0, 1, 0):
        taken.clear()
        learner.episode(task, environment, max_steps=50)
        previous = 2
        for t, action in enumerate(taken):  # always in state 0 until the end
            counts[0, previous, action] += 0.5**t
            previous = action
    np.testing.assert_allclose(learner.prior, counts / counts.sum(-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(learner.prior.sum(-1), 1, rtol=1e-12)


def test_a_given_distilled_policy_stays_as_it_is():
    prior = np.full((2, 3, 2), 0.5)
    learner = rl.TabularDistral(1, 2, 2, prior=prior, seed=0)
    learner.episode(0, Corridor(2), max_steps=50)
    np.testing.assert_array_equal(learner.prior, np.full((2, 3, 2), 0.5))


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"`alpha` should be from 0 to 1. Received: alpha=1.5"):
        rl.TabularDistral(1, 2, 2, alpha=1.5)
    with pytest.raises(ValueError, match="`beta` should be above 0"):
        rl.TabularDistral(1, 2, 2, beta=0)
    with pytest.raises(ValueError, match=r"`prior` should hold positive probabilities of shape \(2, 3, 2\)"):
        rl.TabularDistral(1, 2, 2, prior=np.zeros((2, 3, 2)))
    with pytest.raises(ValueError, match="environment of task 0 should have 5 states and 2 actions"):
        rl.TabularDistral(1, 5, 2).episode(0, Corridor(4), max_steps=1)
