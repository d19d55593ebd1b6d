"""PCD against an enumeration of the active constraints in float64, and against TorchJD 0.18's numbers."""

import itertools

import numpy as np
import pytest

from keras_mtl import weighting as W
from tests.weighting.task_gradients import badly_scaled, conflicting, low_rank

SEQUENCE = np.array(
    [
        [
            [0.001, 0.299, -0.274, -0.891, -0.455, -0.992],
            [1.804, 40.206, -14.766, -18.614, 14.695, 10.707],
            [0.021, -0.186, -0.006, 0.139, -0.269, -0.092],
        ],
        [
            [-1.901, -1.29, -1.842, -0.235, -1.267, 0.271],
            [4.703, -5.608, -75.503, -16.161, -1.455, 3.399],
            [-0.306, -0.096, -0.196, -0.162, 0.212, -0.162],
        ],
        [
            [-0.033, 0.884, -0.584, -0.112, 0.11, 0.064],
            [-36.752, 2.284, 40.765, -46.414, 25.781, 3.581],
            [-0.128, 0.4, 0.152, -0.24, 0.015, 0.115],
        ],
        [
            [-0.189, 0.683, -0.067, 0.667, 1.439, -0.676],
            [6.094, -13.899, 3.818, -35.616, -17.379, -5.886],
            [0.18, 0.229, -0.265, -0.159, 0.129, -0.398],
        ],
    ]
)
# Weights of torchjd.aggregation.PCD(tau=0.1, beta=0.9, eps=0.0) of TorchJD 0.18.0, step by step.
TORCHJD = [
    [0.9972239338959147, 0.0, 0.13312111461727685],
    [1.0, 0.0, 0.0],
    [0.9880899912306067, 0.005077899694124898, 0.0],
    [1.3816595590919774, 0.04606231316821879, 0.0],
]


def enumerated(jacobian, scales, tau):
    """The direction before it is given its length: every set of active constraints is tried."""
    rows = jacobian * scales[:, None]
    primary, others = rows[0], rows[1:]
    asked = tau * (others**2).sum(axis=1)
    found = []
    for size in range(len(others) + 1):
        for active in map(list, itertools.combinations(range(len(others)), size)):
            of = others[active]
            multipliers = np.linalg.lstsq(of @ of.T, asked[active] - of @ primary, rcond=None)[0]
            point = primary + multipliers @ of
            if np.all(multipliers >= -1e-9) and np.all(others @ point >= asked - 1e-9):
                found.append(point)
    return min(found, key=lambda point: np.sum((point - primary) ** 2)) if found else primary


def solve(weighting, jacobian, present=None):
    return weighting.solve(jacobian @ jacobian.T, present).numpy()


@pytest.mark.oracle
def test_weights_are_torchjds_step_by_step():
    weighting = W.PCD(tau=0.1, beta=0.9)
    for jacobian, expected in zip(SEQUENCE, TORCHJD, strict=True):
        np.testing.assert_allclose(solve(weighting, jacobian), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("sampler", [conflicting, badly_scaled, low_rank], ids=lambda f: f.__name__)
def test_direction_is_the_nearest_one_of_all_sets_of_constraints(sampler, tau):
    for seed in range(3):
        jacobian = sampler(np.random.default_rng(seed), 4)
        norms = np.linalg.norm(jacobian, axis=1)  # which the first step's averages are the squares of
        expected = enumerated(jacobian, 1.0 / norms, tau)
        length = np.linalg.norm(expected)
        expected = expected * (norms[0] / length) if length > 1e-6 else 0.0 * expected
        np.testing.assert_allclose(solve(W.PCD(tau=tau), jacobian) @ jacobian, expected, atol=1e-7 * norms[0])


def test_every_other_task_gains_and_the_length_is_the_primary_ones():
    for seed in range(5):
        jacobian = badly_scaled(np.random.default_rng(seed), 5)
        direction = solve(W.PCD(tau=0.1), jacobian) @ jacobian
        assert np.all(jacobian[1:] @ direction > 0)
        np.testing.assert_allclose(np.linalg.norm(direction), np.linalg.norm(jacobian[0]), rtol=1e-9)


def test_the_primary_task_is_found_by_its_name():
    jacobian = SEQUENCE[0]
    named, first = W.PCD(primary="c"), W.PCD()
    named.set_tasks(["a", "b", "c"], ["regression"] * 3)
    order = [2, 0, 1]
    np.testing.assert_allclose(solve(named, jacobian)[order], solve(first, jacobian[order]), rtol=1e-7)


def test_scales_of_the_other_losses_do_not_matter():
    one, other = W.PCD(tau=0.1, beta=0.9), W.PCD(tau=0.1, beta=0.9)
    for jacobian in SEQUENCE:
        scaled = jacobian * np.array([[1.0], [1e-4], [1e3]])
        np.testing.assert_allclose(solve(other, scaled) @ scaled, solve(one, jacobian) @ jacobian, rtol=1e-6)


def test_opposite_and_missing_gradients():
    row = np.array([[3.0, 4.0]])
    against = np.concatenate([row, -row])
    # The other task's progress is what is asked for; with tau = 0 only that it does not lose.
    np.testing.assert_allclose(solve(W.PCD(tau=0.1), against) @ against, -row[0], rtol=1e-9)
    np.testing.assert_array_equal(solve(W.PCD(tau=0.0), against), [0.0, 0.0])
    # No direction helps both of two opposite others: it stays the primary gradient.
    both = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(solve(W.PCD(), both), [1.0, 0.0, 0.0], atol=1e-9)
    np.testing.assert_array_equal(solve(W.PCD(), np.array([[0.0, 0.0], [1.0, 1.0]])), [0.0, 0.0])
    np.testing.assert_allclose(solve(W.PCD(), np.array([[1.0, 1.0], [0.0, 0.0]])), [1.0, 0.0])


def test_a_batch_without_the_primary_task_moves_nothing_and_keeps_its_state():
    weighting = W.PCD(beta=0.5)
    solve(weighting, SEQUENCE[0])
    before = weighting.mean_squares.numpy()
    gone = np.array([0.0, 1.0, 1.0])
    np.testing.assert_array_equal(solve(weighting, SEQUENCE[1] * gone[:, None], gone), [0.0, 0.0, 0.0])
    after = weighting.mean_squares.numpy()
    assert after[0] == before[0] and np.all(after[1:] != before[1:])
    np.testing.assert_array_equal(weighting.steps, [1.0, 2.0, 2.0])


def test_a_gramian_that_is_not_finite_leaves_the_averages_alone():
    weighting = W.PCD()
    solve(weighting, SEQUENCE[0])
    before = weighting.mean_squares.numpy()
    assert np.all(np.isfinite(weighting.solve(np.full((3, 3), np.nan)).numpy()))
    np.testing.assert_array_equal(weighting.mean_squares, before)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"`primary` should be one of the tasks \['a', 'b'\]. Received: primary='c'"):
        W.PCD(primary="c").set_tasks(["a", "b"], ["regression"] * 2)
    with pytest.raises(ValueError, match="`primary` should be a task's name"):
        W.PCD(primary=1)
    with pytest.raises(ValueError, match="call `set_tasks` first"):
        W.PCD(primary="a").solve(np.eye(2))
    for options in ({"tau": 1.5}, {"tau": -0.1}, {"beta": 1.0}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` should be a finite number"):
            W.PCD(**options)
