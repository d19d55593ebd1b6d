"""Weightings on the Jacobian against recurrences worked out in numpy and numbers from an independent implementation."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl import weighting as W

CASES = json.loads(pathlib.Path(__file__).with_name("scalarizer_goldens.json").read_text())["cases"]
BASE = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], "float32")
TWO = np.ones(2, "float32")


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def nearest_on_simplex(point):
    """By bisection on the threshold, unlike the code under test."""
    low, high = point.min() - 1, point.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - low, 0)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_graddrop_matches_golden_at_a_pinned_draw(case, monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, **_: ops.full(shape, 0.5))
    jacobian = np.array(case["J"], "float32")
    weighting = W.GradDrop()
    weighting.build(jacobian.shape)
    ones = np.ones(len(jacobian), "float32")
    direction, _ = weighting.direction(jacobian, ones, ones)
    np.testing.assert_allclose(direction, case["methods"]["GradDrop(U=0.5)"]["vector"], rtol=1e-4, atol=1e-6)


def test_graddrop_leaks_and_logs_the_share_kept(monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, **_: ops.full(shape, 0.5))
    weighting = W.GradDrop(leak=[0.25, 0.0])
    weighting.build(BASE.shape)
    direction, weights = weighting.direction(BASE, TWO, TWO)
    # First coordinate: P = 0.6, so 6 stays and a quarter of -4 leaks.
    np.testing.assert_allclose(direction, [5.0, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(weights, [(0.25 * 16 + 2) / 18, 1.0], rtol=1e-6)


def test_graddrop_keeps_signs_as_often_as_the_purity_says():
    weighting = W.GradDrop(seed=1)
    jacobian = np.tile(np.array([[3.0], [-1.0]], "float32"), (1, 4000))
    weighting.build(jacobian.shape)
    direction, _ = weighting.direction(jacobian, TWO, TWO)
    direction = np.array(direction)
    assert set(np.unique(direction)) == {-1.0, 3.0}
    np.testing.assert_allclose((direction == 3).mean(), 0.75, atol=0.03)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_excess_matches_golden(case):
    """The other implementation moves on the first step, undivided, and its weights sum to 1."""
    jacobian = np.array(case["J"], "float32")
    weighting = W.ExcessMTL(learning_rate=1.0, baseline=False)
    weighting.build(jacobian.shape)
    ones = np.ones(len(jacobian), "float32")
    direction, weights = weighting.direction(jacobian, ones, ones)
    golden = case["methods"]["ExcessMTL"]
    np.testing.assert_allclose(weights, len(jacobian) * np.array(golden["weights"]), rtol=1e-4)
    np.testing.assert_allclose(direction, len(jacobian) * np.array(golden["vector"]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("warmup_steps", [0, 2])
def test_excess_recurrence(warmup_steps):
    weighting = W.ExcessMTL(learning_rate=0.3, warmup_steps=warmup_steps)
    weighting.build((3, 5))
    squares, first, weights = 0.0, None, np.ones(3)
    ones = np.ones(3, "float32")
    for step in range(1, 6):
        jacobian = draws(3, 5, seed=step)
        squares = squares + np.square(jacobian)
        excess = np.sum(np.square(jacobian) / np.sqrt(squares + 1e-7), axis=1)
        if step == max(1, warmup_steps):
            first = excess
        elif step > warmup_steps:
            weights = weights * np.exp(0.3 * excess / first)
            weights = 3 * weights / weights.sum()
        direction, got = weighting.direction(jacobian, ones, ones)
        np.testing.assert_allclose(got, weights, rtol=1e-4)
        np.testing.assert_allclose(direction, weights @ jacobian, rtol=1e-3, atol=1e-5)


def test_excess_present_tasks_share_what_they_had():
    weighting = W.ExcessMTL(learning_rate=1.0, baseline=False)
    weighting.build((3, 4))
    present = np.array([1, 0, 1], "float32")
    _, weights = weighting.direction(draws(3, 4), present, present)
    np.testing.assert_allclose(np.sum(weights), 2.0, rtol=1e-6)
    np.testing.assert_allclose(weighting.log_weights.numpy()[1], 0.0)
    np.testing.assert_allclose(weighting.squares.numpy()[1], 0.0)


def test_dbmtl_scale_by_hand():
    """The golden scale: sqrt(38 / 18) = 1.453."""
    weighting = W.DBMTL(beta=0.0)
    weighting.build(BASE.shape)
    direction, weights = weighting.direction(BASE, TWO, TWO)
    np.testing.assert_allclose(weights, [np.sqrt(38 / 18), 1.0], rtol=1e-6)
    np.testing.assert_allclose(direction, np.sqrt(38 / 18) * BASE[0] + BASE[1], rtol=1e-5)


@pytest.mark.parametrize("debias", [False, True])
@pytest.mark.parametrize("beta_sigma", [0.0, 0.5])
def test_dbmtl_recurrence(beta_sigma, debias):
    weighting = W.DBMTL(beta=0.9, beta_sigma=beta_sigma, debias=debias)
    weighting.build((3, 5))
    mean, kept = np.zeros((3, 5)), 1.0
    for step in range(1, 5):
        jacobian, losses = draws(3, 5, seed=step), np.exp(draws(3, seed=step))
        beta = 0.9 / step**beta_sigma
        mean = (1 - beta) * jacobian / losses[:, None] + beta * mean
        kept = kept * beta
        used = mean / (1 - kept) if debias else mean
        norms = np.linalg.norm(used, axis=1)
        scale = norms.max() / norms
        direction, weights = weighting.direction(jacobian, losses, np.ones(3, "float32"))
        np.testing.assert_allclose(direction, scale @ used, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights, scale / losses, rtol=1e-4)


def test_dbmtl_debiased_first_step_is_the_plain_gradient():
    weighting, plain = W.DBMTL(debias=True), W.DBMTL(beta=0.0)
    losses = np.array([0.5, 2.0], "float32")
    results = []
    for method in (weighting, plain):
        method.build(BASE.shape)
        results.append(method.direction(BASE, losses, TWO)[0])
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("projection", ["simplex", "softmax"])
@pytest.mark.parametrize("match_losses", [False, True])
def test_moco_recurrence(projection, match_losses):
    weighting = W.MoCo(beta=0.5, learning_rate=0.4, rho=0.2, projection=projection, match_losses=match_losses)
    weighting.build((3, 5))
    tracked, weights = np.zeros((3, 5)), np.full(3, 1 / 3)
    for step in range(1, 5):
        jacobian, losses = draws(3, 5, seed=step), np.exp(draws(3, seed=step))
        g = jacobian * (losses / np.linalg.norm(jacobian, axis=1))[:, None] if match_losses else jacobian
        tracked = tracked - 0.5 / step**0.5 * (tracked - g)
        moved = weights - 0.4 / step**0.5 * (tracked @ tracked.T + 0.2 * np.eye(3)) @ weights
        weights = nearest_on_simplex(moved) if projection == "simplex" else np.exp(moved) / np.exp(moved).sum()
        direction, got = weighting.direction(jacobian, losses, np.ones(3, "float32"))
        np.testing.assert_allclose(got, weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(direction, weights @ tracked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sub_batches", [2, 3])
def test_modo_recurrence(sub_batches):
    weighting = W.MoDo(learning_rate=0.2, rho=0.1, sub_batches=sub_batches)
    assert weighting.sub_batches == sub_batches
    weighting.build((3, 5))
    weights = np.full(3, 1 / 3)
    for step in range(4):
        parts = draws(sub_batches, 3, 5, seed=step)
        weights = nearest_on_simplex(weights - 0.2 * (parts[0] @ parts[1].T @ weights + 0.1 * weights))
        losses, ones = np.ones((sub_batches, 3), "float32"), np.ones(3, "float32")
        direction, got = weighting.direction(parts, losses, ones)
        np.testing.assert_allclose(got, weights, rtol=1e-4, atol=1e-6)
        last = parts[2] if sub_batches == 3 else parts.mean(axis=0)
        np.testing.assert_allclose(direction, weights @ last, rtol=1e-4, atol=1e-5)


def test_sdmgrad_recurrence():
    weighting = W.SDMGrad(lam=0.3, learning_rate=0.5, momentum=0.5, iterations=4)
    weighting.build((3, 5))
    weights = np.full(3, 1 / 3)
    for step in range(3):
        parts = draws(3, 3, 5, seed=step)
        norms = np.linalg.norm(parts, axis=2)
        gramian = parts[0] @ parts[1].T / np.mean(np.sqrt(norms[0] * norms[1])) ** 2
        velocity = np.zeros(3)
        for _ in range(4):
            velocity = 0.5 * velocity + gramian @ weights + 0.3 * gramian @ np.full(3, 1 / 3)
            weights = nearest_on_simplex(weights - 0.5 * velocity)
        mixed = (weights + 0.3 / 3) / 1.3
        direction, got = weighting.direction(parts, np.ones((3, 3), "float32"), np.ones(3, "float32"))
        np.testing.assert_allclose(got, mixed, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(direction, mixed @ parts[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: W.SDMGrad(lam=0.0, learning_rate=1.0), lambda: W.MoDo(learning_rate=0.02, rho=0.0)]
)
def test_equal_parts_lead_to_the_min_norm_point(make):
    """With the same gradients in every part and step both solve MGDA's problem, whose solution is (0.6, 0.4)."""
    weighting = make()
    weighting.build(BASE.shape)
    parts, traced = np.stack([BASE] * 3), tf.function(weighting.direction, autograph=False)
    for _ in range(30):
        direction, weights = traced(parts, np.ones((3, 2), "float32"), TWO)
    np.testing.assert_allclose(weights, [0.6, 0.4], atol=1e-3)
    np.testing.assert_allclose(direction, [0.0, 1.0, 1.0], atol=1e-2)


def test_sdmgrad_with_a_strong_pull_is_the_mean():
    weighting = W.SDMGrad(lam=1e6)
    weighting.build(BASE.shape)
    direction, _ = weighting.direction(np.stack([BASE] * 3), np.ones((3, 2), "float32"), TWO)
    np.testing.assert_allclose(direction, [1.0, 1.0, 1.0], rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_sdmgrad_weights_do_not_depend_on_the_scale(scale):
    results = []
    for factor in (1.0, scale):
        weighting = W.SDMGrad()
        weighting.build((3, 5))
        parts = draws(3, 3, 5) * np.float32(factor)
        results.append(weighting.direction(parts, np.ones((3, 3), "float32"), np.ones(3, "float32"))[1])
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", [W.MoCo, W.MoDo, W.SDMGrad])
def test_an_absent_task_keeps_its_share_of_the_simplex(make):
    weighting = make()
    weighting.build((3, 4))
    weighting.current_weights.assign([0.2, 0.5, 0.3])
    present = np.array([1, 0, 1], "float32")
    parts = draws(weighting.sub_batches, 3, 4) * present[:, None]
    losses = np.ones((weighting.sub_batches, 3), "float32") * present
    if weighting.sub_batches == 1:
        parts, losses = parts[0], losses[0]
    _, weights = weighting.direction(parts, losses, present)
    state = weighting.current_weights.numpy()
    np.testing.assert_allclose(state[1], 0.5)
    np.testing.assert_allclose(state.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.sum(weights), 1.0, rtol=1e-5)
    assert weights[1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: W.GradDrop(leak=1.5), "`leak` should be a finite number, at least 0 and at most 1"),
        (lambda: W.GradDrop(leak=[0.5, 0.5]).build((3, 4)), "`leak` should have one value for each of 3"),
        (lambda: W.DBMTL(beta=1.0), "`beta`"),
        (lambda: W.DBMTL(beta_sigma=-1), "`beta_sigma`"),
        (lambda: W.DBMTL(floor=0), "`floor`"),
        (lambda: W.ExcessMTL(learning_rate=0), "`learning_rate`"),
        (lambda: W.ExcessMTL(warmup_steps=1.5), "`warmup_steps`"),
        (lambda: W.MoCo(beta=0), "`beta`"),
        (lambda: W.MoCo(learning_rate=0), "`learning_rate`"),
        (lambda: W.MoCo(rho=-1), "`rho`"),
        (lambda: W.MoCo(projection="ball"), "`projection`"),
        (lambda: W.MoDo(learning_rate=0), "`learning_rate`"),
        (lambda: W.MoDo(rho=-1), "`rho`"),
        (lambda: W.MoDo(sub_batches=1), "`sub_batches` should be 2 or 3. Received: sub_batches=1"),
        (lambda: W.SDMGrad(lam=-1), "`lam`"),
        (lambda: W.SDMGrad(learning_rate=0), "`learning_rate`"),
        (lambda: W.SDMGrad(momentum=1), "`momentum`"),
        (lambda: W.SDMGrad(iterations=0), "`iterations`"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
