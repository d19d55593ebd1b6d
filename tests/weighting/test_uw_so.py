"""UW-SO against its equation in NumPy, and by hand."""

import numpy as np
import pytest

from keras_mtl import weighting as W

LOSSES = np.array([0.4, 1.0, 2.5])


def expected(losses, temperature):
    powers = np.exp(1.0 / np.asarray(losses, "float64") / temperature)
    return powers / powers.sum()


@pytest.mark.oracle
@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_weights_are_the_softmax_of_the_inverse_losses(temperature):
    weighting = W.UWSO(temperature=temperature)
    for scale in (0.5, 1.0, 30.0):
        np.testing.assert_allclose(weighting(scale * LOSSES), expected(scale * LOSSES, temperature), rtol=1e-5)


@pytest.mark.oracle
def test_weights_by_hand():
    # 1/L is 4 and 2; a temperature of 2 leaves 2 and 1, and e^2 / (e^2 + e) = 1 / (1 + 1/e).
    np.testing.assert_allclose(W.UWSO(temperature=2.0)([0.25, 0.5]), [0.731059, 0.268941], atol=1e-6)


def test_the_lowest_loss_gets_all_at_low_temperatures_and_a_third_at_high_ones():
    np.testing.assert_allclose(W.UWSO(temperature=1e-3)(LOSSES), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(W.UWSO(temperature=1e-38)(LOSSES), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(W.UWSO(temperature=1e5)(LOSSES), [1 / 3] * 3, atol=1e-4)


def test_an_absent_task_is_left_out_of_the_softmax():
    weights = W.UWSO()([0.4, 0.0, 2.5], present=np.array([1.0, 0.0, 1.0], "float32"))
    left = expected([0.4, 2.5], 1.0)
    np.testing.assert_allclose(weights, [left[0], 0.0, left[1]], rtol=1e-5)


def test_losses_below_the_floor_are_read_as_the_floor():
    weighting = W.UWSO(temperature=1e3, floor=1e-3)
    np.testing.assert_allclose(weighting([0.0, -5.0, 2e-3]), expected([1e-3, 1e-3, 2e-3], 1e3), rtol=1e-5)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": -1.0}, {"floor": 0.0}])
def test_options_are_checked(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"`{name}` should be a finite number, above 0. Received: {name}="):
        W.UWSO(**options)
