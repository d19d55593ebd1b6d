"""Shaping by potentials leaves the best policies as they are: in returns, and in the Q-values of a known MDP."""

import gymnasium
import numpy as np
import pytest

from keras_mtl import rl

DISCOUNT = 0.9


def returns(environment, seed, discount):
    """Discounted return, first state, and last state (or `None` where it was terminal) of an episode at random."""
    rng = np.random.default_rng(seed)
    state, _ = environment.reset(seed=seed)
    first, total, weight = state, 0.0, 1.0
    while True:
        state, reward, terminated, truncated, _ = environment.step(int(rng.integers(4)))
        total += weight * reward
        weight *= discount
        if terminated or truncated:
            return total, first, (None if terminated else state), weight


@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
@pytest.mark.parametrize("seed", range(4))
def test_an_episode_loses_the_potential_of_its_start_and_keeps_that_of_its_end(seed, discount):
    phi = np.random.default_rng(0).normal(size=16)
    plain = gymnasium.make("FrozenLake-v1", is_slippery=True, max_episode_steps=4)
    shaped = rl.PotentialShaping(
        gymnasium.make("FrozenLake-v1", is_slippery=True, max_episode_steps=4), lambda env: phi[env.s], discount
    )
    before, first, last, weight = returns(plain, seed, discount)
    after, again, _, _ = returns(shaped, seed, discount)
    assert first == again
    end = 0.0 if last is None else weight * phi[last]
    assert after - before == pytest.approx(end - phi[first], abs=1e-9)


def q_star(reward_of):
    """Value iteration on the lake's own table of transitions."""
    table = gymnasium.make("FrozenLake-v1", is_slippery=True).unwrapped.P
    q = np.zeros((16, 4))
    for _ in range(250):
        v = q.max(-1)
        for s in range(16):
            for a in range(4):
                q[s, a] = sum(
                    p * (reward_of(s, after, r, done) + (0.0 if done else DISCOUNT * v[after]))
                    for p, after, r, done in table[s][a]
                )
    return q


@pytest.mark.oracle
def test_q_values_move_by_the_potential_and_best_actions_stay():
    phi = np.random.default_rng(1).normal(size=16)
    plain = q_star(lambda s, after, r, done: r)
    shaped = q_star(lambda s, after, r, done: r + (0.0 if done else DISCOUNT * phi[after]) - phi[s])
    inside = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]  # holes and the goal end the episode
    np.testing.assert_allclose(shaped[inside], plain[inside] - phi[inside, None], atol=1e-9)
    assert (shaped[inside].argmax(-1) == plain[inside].argmax(-1)).all()


@pytest.mark.oracle
def test_a_bonus_that_is_no_potential_changes_best_actions():
    """Paid for coming near and not charged for going away: the best policy is to walk in circles."""
    phi = np.array([(s // 4 + s % 4) / 6 for s in range(16)])
    plain = q_star(lambda s, after, r, done: r)
    naive = q_star(lambda s, after, r, done: r + max(0.0, phi[after] - phi[s]))
    inside = [s for s in range(16) if s not in (5, 7, 11, 12, 15)]
    assert (naive[inside].argmax(-1) != plain[inside].argmax(-1)).any()


def test_a_potential_is_a_number():
    shaped = rl.PotentialShaping(gymnasium.make("FrozenLake-v1"), lambda env: float("inf"), 0.9)
    with pytest.raises(ValueError, match=r"`potential` should give a finite number. Received: inf"):
        shaped.reset()
