"""What each method promises, on random, dependent, stationary and badly scaled task gradients."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl import weighting as W
from keras_mtl.weighting.one_program import solve_program
from keras_mtl.weighting.quadratic import nonnegative_qp, positive

METHODS = {
    "mgda": lambda: W.MGDA(),
    "upgrad": lambda: W.UPGrad(),
    "dualproj": lambda: W.DualProj(),
    "cagrad": lambda: W.CAGrad(c=0.5),
    "cagrad_1": lambda: W.CAGrad(c=1.0),
    "cagrad_2": lambda: W.CAGrad(c=2.0),
    "imtl_g": lambda: W.IMTLG(),
    "config": lambda: W.ConFIG(),
    "aligned": lambda: W.AlignedMTL(),
    "aligned_median": lambda: W.AlignedMTL(scale_mode="median"),
    "aligned_rmse": lambda: W.AlignedMTL(scale_mode="rmse"),
    "nash": lambda: W.NashMTL(),
    "nash_free": lambda: W.NashMTL(max_norm=0),
    "fairgrad": lambda: W.FairGrad(alpha=1.0),
    "fairgrad_half": lambda: W.FairGrad(alpha=0.5),
    "fairgrad_2": lambda: W.FairGrad(alpha=2.0),
    "pcgrad": lambda: W.PCGrad(order="fixed"),
    "pcgrad_random": lambda: W.PCGrad(seed=1),
    "gradvac": lambda: W.GradVac(order="fixed"),
}
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
ORDERED = ["pcgrad", "pcgrad_random", "gradvac"]
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
SCALES = [(1.0, 1.0, 1.0), (0.1, 1.0, 10.0), (0.01, 1.0, 100.0), (1e-5, 1.0, 1e5)]


@functools.cache
def compiled(method, size):
    """One traced solver per method and size, for the whole module."""
    weighting = METHODS[method]()
    weighting.build((size,))
    signature = [tf.TensorSpec((size, size), "float64"), tf.TensorSpec((size,), "float64")]
    return weighting, tf.function(weighting.solve, input_signature=signature)


def solve(method, jacobian, present=None):
    jacobian = np.asarray(jacobian, "float64")
    gramian = jacobian @ jacobian.T
    present = np.ones(len(jacobian)) if present is None else np.asarray(present, "float64")
    if len(jacobian) < 5:
        # Not worth tracing for.
        return METHODS[method]().solve(gramian, present).numpy()
    weighting, function = compiled(method, len(jacobian))
    weighting.reset_state()
    return function(gramian, present).numpy()


def orthonormal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_left_null(rng, size, parameters, rank, null):
    """A matrix of the given rank whose rows, weighted by `null`, sum to zero."""
    basis = np.linalg.qr(np.column_stack([null, rng.standard_normal((size, rank))]))[0][:, 1:]
    return basis @ np.diag(rng.uniform(0.5, 2.0, rank)) @ orthonormal(rng, parameters, rank).T


def normal(rng, size):
    return rng.standard_normal((size, 3 * size + 5))


def conflicting(rng, size):
    jacobian = normal(rng, size)
    return jacobian - 0.9 * jacobian.mean(axis=0)


def low_rank(rng, size):
    return rng.standard_normal((size, max(size // 2, 1))) @ rng.standard_normal((max(size // 2, 1), 12))


def few_parameters(rng, size):
    return rng.standard_normal((size, 2))


def strongly_stationary(rng, size):
    return with_left_null(rng, size, size + 4, max(size // 2, 1), rng.uniform(0.5, 1.5, size))


def weakly_stationary(rng, size):
    null = rng.uniform(0.5, 1.5, size) * (np.arange(size) < max(2, size // 2))
    return with_left_null(rng, size, size + 4, max(size // 2, 1), null)


def badly_scaled(rng, size):
    return conflicting(rng, size) * np.resize([0.01, 1.0, 100.0], size)[:, None]


SAMPLERS = [normal, conflicting, low_rank, few_parameters, strongly_stationary, weakly_stationary, badly_scaled]
SIZES = [5]


def matrices(sampler, sizes=SIZES, draws=4):
    for size in sizes:
        for seed in range(draws):
            yield sampler(np.random.default_rng(100 * size + seed), size)


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
    weights = solve(method, np.eye(5) * [[1], [0], [1], [1], [1]])
    np.testing.assert_allclose(weights[1], ZERO_ROW.get(method, 0.0), atol=1e-12)
    np.testing.assert_allclose(weights[[2, 3, 4]], weights[0], rtol=1e-9)
    assert (weights[0] > 0) == (method != "mgda")
    assert np.all(np.isfinite(solve(method, np.zeros((5, 2)))))


@pytest.mark.parametrize("method", METHODS)
def test_a_gramian_that_is_not_finite_ends(method):
    for value in (np.nan, np.inf):
        assert np.all(np.isfinite(solve(method, [[value, 1.0], [1.0, 1.0]])))


def kkt_violation(matrix, linear, x):
    slope = x @ matrix + linear
    return max(np.max(-x), np.max(-slope), np.max(np.abs(x * slope)) / (1.0 + x.max()))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_quadratic_programs_meet_their_optimality_conditions(sampler):
    function = tf.function(nonnegative_qp)
    for jacobian in matrices(sampler, sizes=[5, 40], draws=2):
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        for dtype in ("float64", "float32"):
            cosines = (rows.astype(dtype) @ rows.astype(dtype).T).astype("float64")
            np.fill_diagonal(cosines, 1.0)
            cosines, proximal = positive(cosines)
            cosines = cosines.numpy()
            x = function(cosines, cosines, proximal).numpy()
            assert kkt_violation(cosines, cosines, x) < (1e-8 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("sampler", [low_rank, weakly_stationary], ids=lambda f: f.__name__)
def test_active_sets_of_dependent_gradients_do_not_go_round_in_circles(sampler):
    # Some of these programs were not solved after 600 changes of the active set.
    function = tf.function(nonnegative_qp)
    for seed in range(12):
        jacobian = sampler(np.random.default_rng(4000 + seed), 40)
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        cosines, proximal = positive(rows @ rows.T)
        x = function(cosines, cosines, proximal).numpy()
        assert kkt_violation(cosines.numpy(), cosines.numpy(), x) < 1e-8


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda f: f.__name__)
def test_single_programs_meet_their_optimality_conditions(sampler):
    mean = np.full((40, 1), 1 / 40)
    function = tf.function(lambda cosines: solve_program(cosines, lambda c: (c, tf.matmul(c, mean))))
    for jacobian in matrices(sampler, sizes=[40], draws=3):
        rows = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        for dtype, bound in (("float64", 1e-8), ("float32", 1e-6)):
            cosines = (rows.astype(dtype) @ rows.astype(dtype).T).astype("float64")
            np.fill_diagonal(cosines, 1.0)
            x = function(cosines).numpy()
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


@pytest.mark.parametrize("c", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("scales", SCALES[:3], ids=str)
def test_cagrad_meets_its_optimality_conditions(scales, c):
    weighting = W.CAGrad(c=c)
    function = tf.function(weighting.solve)
    for seed in range(4):
        jacobian = conflicting(np.random.default_rng(seed), 5) * np.resize(scales, 5)[:, None]
        weights = function(jacobian @ jacobian.T).numpy()
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
    function = tf.function(W.FairGrad(alpha=alpha).solve)
    for seed in range(3):
        jacobian = conflicting(np.random.default_rng(seed), 5)
        gramian = jacobian @ jacobian.T
        weights = function(gramian).numpy()
        np.testing.assert_allclose((gramian @ weights) ** -alpha, weights, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_norms_of_twenty_orders_of_magnitude(method):
    scales = np.array([1e-10, 1.0, 1e10, 1e-10, 1e10])[:, None]
    assert np.all(np.isfinite(solve(method, scales * low_rank(np.random.default_rng(1), 5))))
    weights = solve(method, scales * conflicting(np.random.default_rng(1), 5))
    assert np.all(np.isfinite(weights)) and np.any(weights != 0)


@pytest.mark.parametrize("scale_mode", ["min", "median"])
def test_aligned_bears_a_solver_that_loses_the_smallest_eigenvalues(scale_mode, monkeypatch):
    """As cuSOLVER does on a GPU: what is left of them there is an error of either sign."""

    def lossy(matrix):
        values, vectors = np.linalg.eigh(matrix)
        values = np.where(values < 1e-12 * values[-1], -1e-17, values)
        return ops.convert_to_tensor(values), ops.convert_to_tensor(vectors)

    jacobian = np.array([1e-10, 1e-8, 1e10, 1.0, 1e-9])[:, None] * conflicting(np.random.default_rng(1), 5)
    with monkeypatch.context() as patch:
        patch.setattr(ops, "eigh", lossy)
        weights = np.array(W.AlignedMTL(scale_mode=scale_mode).solve(jacobian @ jacobian.T))
    assert np.all(np.isfinite(weights)) and np.any(weights != 0)


def test_limits_of_cagrad_and_fairgrad():
    jacobian = conflicting(np.random.default_rng(0), 4)
    gramian = jacobian @ jacobian.T
    np.testing.assert_allclose(W.CAGrad(c=0).solve(gramian), 0.25)
    np.testing.assert_allclose(W.FairGrad(alpha=0).solve(gramian), 0.25)
    far = W.CAGrad(c=1e4).solve(gramian).numpy()
    np.testing.assert_allclose(far / far.sum(), W.MGDA().solve(gramian), atol=1e-3)
    plain, rescaled = W.CAGrad(c=0.5).solve(gramian), W.CAGrad(c=0.5, rescale=True).solve(gramian)
    np.testing.assert_allclose(rescaled, plain / 1.25)


def test_nash_falls_back_to_the_last_weights():
    row = np.random.default_rng(0).standard_normal(5)
    opposite, other = np.stack([row, -row]), np.random.default_rng(1).standard_normal((2, 5))
    weighting = W.NashMTL(max_norm=0)
    np.testing.assert_allclose(weighting.solve(opposite @ opposite.T), 1.0)
    last = weighting.solve(other @ other.T).numpy()
    assert float(weighting.fallbacks) == 1
    np.testing.assert_allclose(weighting.solve(opposite @ opposite.T), last, rtol=1e-6)
    assert float(weighting.fallbacks) == 2
    np.testing.assert_allclose(weighting.solve(other @ other.T, np.array([1.0, 0.0]))[1], 0.0)
    np.testing.assert_allclose(weighting.previous_weights[1], last[1], rtol=1e-6)
    weighting.reset_state()
    assert float(weighting.fallbacks) == 0


def test_stationary_gradients_give_no_direction():
    jacobian = strongly_stationary(np.random.default_rng(0), 5)
    for method in ("cagrad_2", "fairgrad", "fairgrad_2"):
        assert np.all(solve(method, jacobian) == 0)


def test_gradvac_targets_follow_the_cosines():
    jacobian = np.array([[1.0, 0.0], [0.6, 0.8]])
    weighting = W.GradVac(beta=0.5, order="fixed")
    np.testing.assert_allclose(weighting.solve(jacobian @ jacobian.T), [1.0, 1.0])
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.3], [0.3, 0.0]], rtol=1e-6)
    # Orthogonal gradients are pulled to the cosine 0.3, as tan says: 0.3 / sqrt(1 - 0.09).
    pull = 0.3 / np.sqrt(0.91)
    np.testing.assert_allclose(weighting.solve(np.eye(2)), [1 + pull, 1 + pull], rtol=1e-6)
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.15], [0.15, 0.0]], rtol=1e-6)
    weighting.solve(np.eye(2), np.array([1.0, 0.0]))
    np.testing.assert_allclose(weighting.targets, [[0.0, 0.15], [0.15, 0.0]], rtol=1e-6)


def test_random_orders_differ_between_calls_and_repeat_with_the_seed():
    jacobian = conflicting(np.random.default_rng(4), 5)
    gramian = jacobian @ jacobian.T
    first, again = W.PCGrad(seed=3), W.PCGrad(seed=3)
    draws = [first.solve(gramian).numpy() for _ in range(3)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    np.testing.assert_array_equal(draws, [again.solve(gramian).numpy() for _ in range(3)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: W.CAGrad(c=-1), "`c` should be a finite number, at least 0"),
        (lambda: W.FairGrad(alpha=-1), "`alpha` should be a finite number, at least 0. Received: alpha=-1"),
        (lambda: W.NashMTL(max_norm=-1), "`max_norm` should be a finite number, at least 0"),
        (lambda: W.AlignedMTL(scale_mode="max"), "`scale_mode` should be one of"),
        (lambda: W.PCGrad(order="sorted"), "`order` should be one of"),
        (lambda: W.GradVac(order="sorted"), "`order` should be one of"),
        (lambda: W.GradVac(beta=2), "`beta` should be a finite number, at least 0 and at most 1"),
    ],
)
def test_options_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
