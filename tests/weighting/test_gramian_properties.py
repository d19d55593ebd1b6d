"""What each method promises, on random, dependent, stationary and badly scaled task gradients."""

import numpy as np
import pytest

from tests.weighting.task_gradients import (
    METHODS,
    SAMPLERS,
    SCALES,
    badly_scaled,
    compiled,
    conflicting,
    low_rank,
    matrices,
    normal,
    solve,
)

NASH = ["nash", "nash_free"]
NON_CONFLICTING = [
    "mgda",
    "upgrad",
    "dualproj",
    "cagrad_1",
    "cagrad_2",
    *NASH,
    "fairgrad",
    "fairgrad_half",
    "fairgrad_2",
]
EQUAL_ANGLES = ["imtl_g", "config"]
PRIMARY = ["pcd", "pcd_0"]
ORDERED = ["pcgrad", "pcgrad_random", "gradvac", *PRIMARY]
LINEAR_IN_ROWS = ["upgrad", "config", "pcgrad", "gradvac"]
# Weights of c J are those of J times c to this power.
DEGREES = {
    **dict.fromkeys(METHODS, 0.0),
    "nash_free": -1.0,
    "nash": -1.0,
    "fairgrad": -1.0,
    "fairgrad_half": -2.0 / 3.0,
    "fairgrad_2": -4.0 / 3.0,
}


def cosines_with(jacobian, weights):
    """Slope of each task along the direction, relative to the parts that make it up."""
    norms = np.linalg.norm(jacobian, axis=1)
    parts = np.abs(weights) @ norms
    return jacobian @ (weights @ jacobian) / (norms * max(parts, 1e-300))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_finite(method, sampler):
    for jacobian in matrices(sampler, draws=2):
        for scale in (1e-10, 1.0, 1e10):
            weights = solve(method, jacobian * scale)
            assert weights.shape == (len(jacobian),)
            assert np.all(np.isfinite(weights))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("method", NON_CONFLICTING)
def test_non_conflicting(method, sampler):
    for jacobian in matrices(sampler):
        weights = solve(method, jacobian)
        weighting = compiled(method, len(jacobian))[0]
        if method in NASH and float(weighting.fallbacks):
            # No solution where gradients cancel: the last weights are used again.
            assert sampler not in (normal, conflicting, badly_scaled)
            continue
        assert cosines_with(jacobian, weights).min() > -1e-8


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("method", NON_CONFLICTING)
def test_non_conflicting_at_any_row_scale(method, scales):
    for seed in range(4):
        jacobian = conflicting(np.random.default_rng(seed), 5) * np.resize(scales, 5)[:, None]
        weights = solve(method, jacobian)
        assert np.linalg.norm(weights @ jacobian) > 0
        assert cosines_with(jacobian, weights).min() > -1e-8


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("method", EQUAL_ANGLES)
def test_equal_angles(method, scales):
    for seed in range(4):
        jacobian = conflicting(np.random.default_rng(seed), 5) * np.resize(scales, 5)[:, None]
        direction = solve(method, jacobian) @ jacobian
        cosines = jacobian @ direction / np.linalg.norm(jacobian, axis=1) / np.linalg.norm(direction)
        np.testing.assert_allclose(cosines, cosines[0], rtol=1e-6)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ORDERED])
def test_permutation(method):
    for sampler in (conflicting, badly_scaled, low_rank):
        for jacobian in matrices(sampler, draws=2):
            order = np.random.default_rng(1).permutation(len(jacobian))
            plain, moved = solve(method, jacobian) @ jacobian, solve(method, jacobian[order]) @ jacobian[order]
            np.testing.assert_allclose(moved, plain, atol=1e-7 * np.linalg.norm(plain) + 1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_homogeneous(method):
    if method in ("nash", "pcgrad_random"):
        pytest.skip("cut at max_norm; random")
    jacobian = conflicting(np.random.default_rng(3), 5)
    weights = solve(method, jacobian)
    for scale in (1e-10, 1e-3, 1e3, 1e10):
        np.testing.assert_allclose(solve(method, scale * jacobian), weights * scale ** DEGREES[method], rtol=1e-6)


@pytest.mark.parametrize("method", LINEAR_IN_ROWS)
def test_linear_in_row_scales(method):
    rng = np.random.default_rng(5)
    for _ in range(3):
        jacobian = conflicting(rng, 5)
        first, second = 10.0 ** rng.uniform(-2, 2, (2, 5, 1))
        a, b = rng.uniform(0.1, 1.0, 2)
        both = solve(method, (a * first + b * second) * jacobian) @ ((a * first + b * second) * jacobian)
        parts = a * solve(method, first * jacobian) @ (first * jacobian)
        parts = parts + b * solve(method, second * jacobian) @ (second * jacobian)
        np.testing.assert_allclose(both, parts, atol=1e-9 * np.linalg.norm(parts))


@pytest.mark.parametrize("method", METHODS)
def test_identical_gradients_keep_their_direction(method):
    row = np.random.default_rng(0).standard_normal(7)
    for size in (2, 5):
        direction = solve(method, np.tile(row, (size, 1))) @ np.tile(row, (size, 1))
        np.testing.assert_allclose(direction / np.linalg.norm(direction), row / np.linalg.norm(row), atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_opposite_gradients_cancel(method):
    if method == "pcd":
        pytest.skip("the other task gains, whatever that costs: in test_pcd.py")
    row = np.random.default_rng(0).standard_normal(7)
    jacobian = np.stack([row, -row])
    assert np.linalg.norm(solve(method, jacobian) @ jacobian) < 1e-6 * np.linalg.norm(row)


@pytest.mark.parametrize("method", METHODS)
def test_absent_tasks_count_for_nothing(method):
    jacobian = conflicting(np.random.default_rng(2), 5)
    weights = solve(method, jacobian, present=[1, 0, 0, 0, 1])
    assert np.all(weights[1:4] == 0)
    np.testing.assert_allclose(weights[[0, 4]], solve(method, jacobian[[0, 4]]), rtol=1e-7)
    assert np.all(solve(method, jacobian, present=np.zeros(5)) == 0)


@pytest.mark.parametrize("method", METHODS)
def test_one_task(method):
    direction = solve(method, [[3.0, 4.0]]) @ np.array([[3.0, 4.0]])
    length = {"nash": 1.0, "nash_free": 1.0, "fairgrad": 1.0, "cagrad": 7.5, "cagrad_1": 10.0, "cagrad_2": 15.0}
    expected = length.get(method, 5.0 ** (1.0 + DEGREES[method]))
    np.testing.assert_allclose(direction, np.array([0.6, 0.8]) * expected, rtol=1e-9)


# Weight of one task of five with a zero gradient, where that is not 0.
SHARES = dict.fromkeys(["upgrad", "dualproj", "cagrad", "cagrad_1", "cagrad_2"], 1 / 5)
ZERO_ROW = {**SHARES, "mgda": 1.0, "pcgrad": 1.0, "pcgrad_random": 1.0, "gradvac": 1.0}


@pytest.mark.parametrize("method", METHODS)
def test_zero_gradient(method):
    if method in PRIMARY:
        pytest.skip("tasks are not alike: in test_pcd.py")
    weights = solve(method, np.eye(5) * [[1], [0], [1], [1], [1]])
    np.testing.assert_allclose(weights[1], ZERO_ROW.get(method, 0.0), atol=1e-12)
    np.testing.assert_allclose(weights[[2, 3, 4]], weights[0], rtol=1e-9)
    assert (weights[0] > 0) == (method != "mgda")
    assert np.all(np.isfinite(solve(method, np.zeros((5, 2)))))


@pytest.mark.parametrize("method", METHODS)
def test_a_gramian_that_is_not_finite_ends(method):
    for value in (np.nan, np.inf):
        assert np.all(np.isfinite(solve(method, [[value, 1.0], [1.0, 1.0]])))


@pytest.mark.parametrize("method", METHODS)
def test_norms_of_twenty_orders_of_magnitude(method):
    scales = np.array([1e-10, 1.0, 1e10, 1e-10, 1e10])[:, None]
    assert np.all(np.isfinite(solve(method, scales * low_rank(np.random.default_rng(1), 5))))
    weights = solve(method, scales * conflicting(np.random.default_rng(1), 5))
    assert np.all(np.isfinite(weights)) and np.any(weights != 0)
