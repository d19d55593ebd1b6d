"""GradNorm against steps worked out by hand."""

import numpy as np
import pytest

from keras_mtl import weighting as W


def step(weighting, losses, norms, present=(1.0, 1.0)):
    losses, present, gramian = np.array(losses), np.array(present), np.diag(np.square(norms))
    weights = weighting.task_weights(losses, present, gramian)
    weighting.update(losses, present, weights, gramian)
    return weighting.current_weights.numpy()


def test_two_steps():
    weighting = W.GradNorm(alpha=1.0, learning_rate=0.1)
    weighting.build((2,))
    # Rates are 1 at first, so both targets are the mean (1 + 3) / 2 = 2: weights 1 + 0.1 and 1 - 0.3, times 2 / 1.8.
    np.testing.assert_allclose(step(weighting, [2.0, 4.0], [1.0, 3.0]), [1.1 / 0.9, 0.7 / 0.9], rtol=1e-6)
    np.testing.assert_allclose(weighting.initial_losses, [2.0, 4.0])
    # Losses relative to the first are 1 and 0.5: rates 4/3 and 2/3. Weighted norms 11/9 and 21/9, mean 16/9, targets
    # 64/27 and 32/27: the first is below its target, the second above. Weights 11/9 + 0.1, 7/9 - 0.3, sum 1.8.
    expected = np.array([11 / 9 + 0.1, 7 / 9 - 0.3]) * 2 / 1.8
    np.testing.assert_allclose(step(weighting, [2.0, 2.0], [1.0, 3.0]), expected, rtol=1e-6)


def test_alpha_holds_back_the_task_that_trains_fast():
    losses, norms = [1.0, 0.25], [1.0, 1.0]
    slow = W.GradNorm(alpha=1.0, learning_rate=0.1, initial_losses=[1.0, 1.0])
    slow.build((2,))
    # Rates 1.6 and 0.4 of the mean norm 1.
    np.testing.assert_allclose(step(slow, losses, norms), [1.1, 0.9], rtol=1e-6)
    even = W.GradNorm(alpha=0.0, learning_rate=0.1, initial_losses=[1.0, 1.0])
    even.build((2,))
    np.testing.assert_allclose(step(even, losses, norms), [1.0, 1.0], rtol=1e-6)


def test_weights_stay_positive_and_sum_to_the_number_of_tasks():
    weighting = W.GradNorm(learning_rate=10.0)
    weighting.build((3,))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        weights = step(weighting, rng.uniform(0.1, 2.0, 3), 10.0 ** rng.uniform(-5, 5, 3), np.ones(3))
        assert np.all(weights > 0)
        np.testing.assert_allclose(weights.sum(), 3.0, rtol=1e-5)


def test_relative_steps_do_not_depend_on_the_scale_of_the_losses():
    steps = []
    for scale in (1e-6, 1.0, 1e6):
        weighting = W.GradNorm(relative=True, learning_rate=0.1)
        weighting.build((2,))
        steps.append(step(weighting, [scale, scale], [scale, 3 * scale]))
    np.testing.assert_allclose(steps[1], [1.05 / 0.95, 0.85 / 0.95], rtol=1e-6)
    np.testing.assert_allclose(steps, np.tile(steps[1], (3, 1)), rtol=1e-6)


def test_absent_tasks_keep_their_state():
    weighting = W.GradNorm(learning_rate=0.1)
    weighting.build((3,))
    weights = step(weighting, [1.0, 0.0, 2.0], [1.0, 0.0, 3.0], [1.0, 0.0, 1.0])
    np.testing.assert_allclose(weights, [1.1 / 0.9, 1.0, 0.7 / 0.9], rtol=1e-6)
    np.testing.assert_allclose(weighting.initial_losses, [1.0, 0.0, 2.0])
    np.testing.assert_allclose(weighting.task_weights(np.ones(3), np.array([1.0, 0.0, 1.0]), np.eye(3))[1], 0.0)
    step(weighting, [1.0, 5.0, 2.0], [1.0, 1.0, 1.0], np.ones(3))
    np.testing.assert_allclose(weighting.initial_losses, [1.0, 5.0, 2.0])


def test_bad_steps_change_nothing():
    weighting = W.GradNorm()
    weighting.build((2,))
    first = step(weighting, [1.0, 1.0], [1.0, 2.0])
    np.testing.assert_array_equal(step(weighting, [1.0, 1.0], [np.nan, 2.0]), first)
    np.testing.assert_array_equal(step(weighting, [np.inf, 1.0], [1.0, 2.0]), first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1}, "`alpha` should be a finite number, at least 0. Received: alpha=-1"),
        ({"learning_rate": 0}, "`learning_rate` should be a finite number, above 0"),
        ({"initial_losses": [1.0, 0.0]}, "`initial_losses` should be a finite number, above 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        W.GradNorm(**options)


def test_initial_losses_of_the_wrong_length():
    with pytest.raises(ValueError, match="one entry for each of 3 tasks"):
        W.GradNorm(initial_losses=[1.0, 2.0]).build((3,))
