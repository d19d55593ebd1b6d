"""Rollouts: who did what, what came of it, and what an episode's end is worth."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import rl
from keras_mtl.rl._environments import Copies
from keras_mtl.rl._rollouts import Rollouts, advantages


def brute_force(rewards, values, last_value, ended, end_values, discount, trace):
    """`A_t = sum_l (discount trace)^l delta_{t+l}`, up to the end of the episode."""
    steps = len(rewards)
    found = np.zeros(steps)
    for t in range(steps):
        weight = 1.0
        for u in range(t, steps):
            after = end_values[u] if ended[u] else (values[u + 1] if u + 1 < steps else last_value)
            found[t] += weight * (rewards[u] + discount * after - values[u])
            weight *= discount * trace
            if ended[u]:
                break
    return found


@pytest.mark.oracle
def test_advantages_are_the_sums_of_the_definition():
    rng = np.random.default_rng(0)
    shape = (12, 3)
    rewards, values, end_values = (rng.normal(size=shape) for _ in range(3))
    ended, last = rng.random(shape) < 0.3, rng.normal(size=3)
    found = advantages(rewards, values, last, ended, end_values, 0.9, 0.8)
    for i in range(3):
        expected = brute_force(rewards[:, i], values[:, i], last[i], ended[:, i], end_values[:, i], 0.9, 0.8)
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-10)


def linear_model(tasks, value=2.0):
    """Every action is as likely; the value is `value` times the observation."""
    model = keras_mtl.hard_sharing(
        keras.Input((1,)),
        [keras.layers.Identity()],
        {task: keras.layers.Dense(3, kernel_initializer="zeros") for task in tasks},
    )
    for layer in model.layers:
        if layer.trainable_variables:
            kernel = np.zeros((1, 3), "float32")
            kernel[0, 2] = value
            layer.set_weights([kernel, np.zeros(3, "float32")])
    model.compile("sgd", loss=rl.ActorCriticLoss())
    return model


def collected(model, environments, horizon, copies=1, **options):
    losses = model.compiled_tasks.task_losses.losses
    workers = {task: Copies(environment, copies, seed=0) for task, environment in environments.items()}
    rollouts = Rollouts(model, workers, losses, np.random.default_rng(0))
    return rollouts.collect(list(environments), horizon, **options), workers


@pytest.mark.parametrize(("broken_off", "end"), [(False, 0.0), (True, 2.0 * 3)])
def test_an_episode_that_is_broken_off_has_the_value_of_its_end(broken_off, end, count):
    """Returns with a trace of 0 are `r + discount V(s')`; here V(s) = 2 s and rewards are 1, 2, 3."""
    (x, y, weights), workers = collected(
        linear_model(["a"]), {"a": lambda: count(3, broken_off)}, horizon=5, discount=0.5, trace=0.0
    )
    assert x[:, 0].tolist() == [0, 1, 2, 0, 1]
    expected = [1 + 0.5 * 2, 2 + 0.5 * 4, 3 + 0.5 * end, 1 + 0.5 * 2, 2 + 0.5 * 4]
    np.testing.assert_allclose(y["a"][:, 2], expected, rtol=1e-6)
    assert weights["a"].tolist() == [1] * 5
    assert workers["a"].returns == [6.0]
    assert workers["a"].lengths == [3]
    assert workers["a"].steps == 5


def test_rows_of_tasks_side_by_side(count):
    model = linear_model(["a", "b"])
    environments = {"a": lambda: count(2), "b": lambda: count(10)}
    (x, y, weights), _ = collected(model, environments, horizon=3, copies=2, discount=1.0, trace=1.0)
    assert x.shape == (12, 1)
    assert x[weights["a"] == 1, 0].tolist() == [0, 0, 1, 1, 0, 0]
    assert x[weights["b"] == 1, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert (weights["a"] + weights["b"] == 1).all()
    # b: rewards 1, 2, 3, then the value 2 * 3
    assert y["b"][weights["b"] == 1, 2].tolist() == [12, 12, 11, 11, 9, 9]
    np.testing.assert_allclose(y["a"][weights["a"] == 1, 3], np.log(0.5), rtol=1e-6)
    advantage = y["b"][weights["b"] == 1, 1]
    assert abs(advantage.mean()) < 1e-6
    assert advantage.std() == pytest.approx(1, rel=1e-3)


def test_the_bonus_is_part_of_the_reward(count):
    model = rl.distral(
        keras.Input((1,)),
        [keras.layers.Dense(2)],
        {"a": keras.layers.Dense(3, kernel_initializer="zeros")},
        alpha=0.0,
    )
    model.compile("sgd", loss=rl.DistralLoss(alpha=0.0, beta=2.0))
    (_, y, _), _ = collected(model, {"a": lambda: count(1)}, horizon=2, discount=1.0, trace=1.0)
    # The policy is uniform over two actions, so each step is worth its reward of 1 and log(2) / 2.
    np.testing.assert_allclose(y["a"][:, 2], 1 + np.log(2) / 2, rtol=1e-5)
