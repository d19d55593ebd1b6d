"""Solutions meet the optimality conditions of their programs, or are the closed form of two tasks."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import weighting as W
from keras_mtl.weighting._quadratic import nonnegative_qp, semidefinite_part, solve_program
from tests.weighting.task_gradients import SAMPLERS, SCALES, conflicting, low_rank, matrices, solve, weakly_stationary

QUADRATIC = tf.function(nonnegative_qp, autograph=False)
SINGLE = tf.function(
    lambda cosines: solve_program(cosines, lambda c: (c, tf.matmul(c, np.full((40, 1), 1 / 40)))), autograph=False
)
CAGRAD = {c: tf.function(W.CAGrad(c=c).solve, autograph=False) for c in (0.1, 0.5, 1.0, 2.0)}


def kkt_violation(matrix, linear, x):
    slope = x @ matrix + linear
    return max(np.max(-x), np.max(-slope), np.max(np.abs(x * slope)) / (1.0 + x.max()))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_quadratic_programs_meet_their_optimality_conditions(sampler):
    for jacobian in matrices(sampler, sizes=[5, 40], draws=2):
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        for dtype in ("float64", "float32"):
            cosines = (rows.astype(dtype) @ rows.astype(dtype).T).astype("float64")
            np.fill_diagonal(cosines, 1.0)
            cosines, proximal = semidefinite_part(cosines)
            cosines = cosines.numpy()
            x = QUADRATIC(cosines, cosines, proximal).numpy()
            assert kkt_violation(cosines, cosines, x) < (1e-8 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("sampler", [low_rank, weakly_stationary], ids=lambda f: f.__name__)
def test_active_sets_of_dependent_gradients_do_not_go_round_in_circles(sampler):
    # Some of these programs were not solved after 600 changes of the active set.
    for seed in range(12):
        jacobian = sampler(np.random.default_rng(4000 + seed), 40)
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        cosines, proximal = semidefinite_part(rows @ rows.T)
        x = QUADRATIC(cosines, cosines, proximal).numpy()
        assert kkt_violation(cosines.numpy(), cosines.numpy(), x) < 1e-8


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_single_programs_meet_their_optimality_conditions(sampler):
    mean = np.full((40, 1), 1 / 40)
    for jacobian in matrices(sampler, sizes=[40], draws=3):
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        for dtype, bound in (("float64", 1e-8), ("float32", 1e-6)):
            cosines = (rows.astype(dtype) @ rows.astype(dtype).T).astype("float64")
            np.fill_diagonal(cosines, 1.0)
            x = SINGLE(cosines).numpy()
            assert kkt_violation(cosines, (cosines @ mean)[:, 0], x[None]) < bound


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_projections_meet_their_optimality_conditions(sampler):
    for jacobian in matrices(sampler, sizes=[5]):
        norms = np.linalg.norm(jacobian, axis=1)
        shares = np.full(len(jacobian), 1.0 / len(jacobian))
        weights = solve("dualproj", jacobian)
        slopes = jacobian @ (weights @ jacobian)
        assert np.all(weights >= shares)
        assert np.all(slopes / norms > -1e-8 * norms.max())
        assert abs((weights - shares) @ slopes) < 1e-8 * (shares @ norms) * (weights @ norms)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_mgda_meets_its_optimality_conditions(sampler):
    for jacobian in matrices(sampler, sizes=[5, 40], draws=3):
        norms = np.linalg.norm(jacobian, axis=1)
        weights = solve("mgda", jacobian)
        direction = weights @ jacobian
        assert np.all(weights >= 0)
        np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-12)
        gap = jacobian @ direction - direction @ direction
        assert np.all(gap / norms > -1e-8 * (weights @ norms))
        assert abs(weights @ gap) < 1e-8 * (weights @ norms) ** 2


@pytest.mark.parametrize("c", CAGRAD)
@pytest.mark.parametrize("scales", SCALES[:3], ids=str)
def test_cagrad_meets_its_optimality_conditions(scales, c):
    for seed in range(4):
        jacobian = conflicting(np.random.default_rng(seed), 5) * np.resize(scales, 5)[:, None]
        weights = CAGRAD[c](jacobian @ jacobian.T).numpy()
        mean, extra = jacobian.mean(axis=0), weights - 1 / 5
        np.testing.assert_allclose(np.linalg.norm(extra @ jacobian), c * np.linalg.norm(mean), rtol=1e-9)
        slopes = jacobian @ (weights @ jacobian)
        norms = np.linalg.norm(jacobian, axis=1)
        assert np.all(extra >= -1e-12)
        # Tasks that are added have the smallest slope, each in units of its own gradient.
        gaps, size = (slopes - extra @ slopes / extra.sum()) / norms, np.abs(weights) @ norms
        assert gaps.min() > -1e-8 * size
        assert np.max(extra * norms * np.abs(gaps)) < 1e-8 * size**2


def test_two_tasks_in_closed_form():
    for seed in range(10):
        jacobian = np.random.default_rng(seed).standard_normal((2, 4)) * [[1.0], [10.0 ** (seed - 5)]]
        (a, b), (_, c) = jacobian @ jacobian.T
        first = np.clip((c - b) / (a + c - 2 * b), 0, 1)
        np.testing.assert_allclose(solve("mgda", jacobian), [first, 1 - first], rtol=1e-9, atol=1e-12)
        cut = [0.5 + max(0, -b / a) / 2, 0.5 + max(0, -b / c) / 2]
        np.testing.assert_allclose(solve("upgrad", jacobian), cut, rtol=1e-9)
        np.testing.assert_allclose(solve("pcgrad_random", jacobian), 2 * np.array(cut), rtol=1e-9)
        cosine = b / np.sqrt(a * c)
        bisector = 1 / np.sqrt(np.array([a, c]) * (1 + cosine))
        np.testing.assert_allclose(solve("nash_free", jacobian), bisector, rtol=1e-9)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_alpha_fairness(scales):
    for seed in range(4):
        jacobian = conflicting(np.random.default_rng(seed), 5) * np.resize(scales, 5)[:, None]
        gramian = jacobian @ jacobian.T
        np.testing.assert_allclose(solve("fairgrad", jacobian), solve("nash_free", jacobian), rtol=1e-9)
        for method, alpha in (("fairgrad", 1.0), ("fairgrad_half", 0.5), ("fairgrad_2", 2.0)):
            weights = solve(method, jacobian)
            assert np.all(weights > 0)
            rtol = 1e-3 if scales[0] == 1e-5 else 1e-6
            np.testing.assert_allclose(gramian @ weights, weights ** (-1 / alpha), rtol=rtol)


@pytest.mark.parametrize("alpha", [0.1, 0.3, 10.0, 100.0])
def test_extreme_fairness(alpha):
    function = tf.function(W.FairGrad(alpha=alpha).solve, autograph=False)
    for seed in range(3):
        jacobian = conflicting(np.random.default_rng(seed), 5)
        gramian = jacobian @ jacobian.T
        weights = function(gramian).numpy()
        np.testing.assert_allclose((gramian @ weights) ** -alpha, weights, rtol=1e-6)
