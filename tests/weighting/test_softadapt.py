"""SoftAdapt against its equations in NumPy, epoch by epoch."""

import numpy as np
import pytest

from keras_mtl import weighting as W

RNG = np.random.default_rng(0)
EPOCHS = np.exp(RNG.standard_normal((5, 4, 3)))  # five epochs of four batches
LOSSES = np.ones(3, "float32")


def expected(last, before_last, beta, form):
    slopes = last - before_last
    if form == "normalized":
        slopes = slopes / np.abs(slopes).sum()
    powers = np.exp(beta * slopes)
    if form == "loss_weighted":
        powers = powers * last
    return powers / powers.sum()


def end_epoch(weighting, batches, present=LOSSES):
    for losses in batches.astype("float32"):
        weighting.update(losses * present, present, present)
    weighting.end_epoch()


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["plain", "normalized", "loss_weighted"])
@pytest.mark.parametrize("beta", [0.1, 3.0, -2.0, 0.0])
def test_weights_follow_the_equation(form, beta):
    weighting = W.SoftAdapt(beta=beta, form=form)
    weighting.build((3,))
    means = EPOCHS.mean(axis=1)
    for epoch, batches in enumerate(EPOCHS):
        weights = expected(means[epoch - 1], means[epoch - 2], beta, form) if epoch > 1 else [1 / 3] * 3
        np.testing.assert_allclose(weighting(LOSSES), weights, rtol=1e-5)
        end_epoch(weighting, batches)


@pytest.mark.oracle
def test_weights_by_hand():
    # Slopes -1, 0 and 1; losses 1, 2 and 3.
    batches = np.array([[[2.0, 2.0, 2.0]], [[1.0, 2.0, 3.0]]])
    by_hand = {
        "plain": [0.090031, 0.244728, 0.665241],  # of e^-1, 1, e
        "normalized": [0.186324, 0.307196, 0.506480],  # of e^-1/2, 1, e^1/2
        "loss_weighted": [0.034960, 0.190065, 0.774974],  # of e^-1, 2, 3 e
    }
    for form, weights in by_hand.items():
        weighting = W.SoftAdapt(beta=1.0, form=form)
        weighting.build((3,))
        for epoch in batches:
            end_epoch(weighting, epoch)
        np.testing.assert_allclose(weighting(LOSSES), weights, atol=1e-6)


def test_normalized_does_not_see_the_scale_of_the_losses():
    for scale in (1e-6, 1.0, 1e30):
        weighting = W.SoftAdapt(beta=1.0, form="normalized")
        weighting.build((3,))
        for batches in EPOCHS[:2]:
            end_epoch(weighting, scale * batches)
        means = EPOCHS[:2].mean(axis=1)
        np.testing.assert_allclose(weighting(LOSSES), expected(means[1], means[0], 1.0, "normalized"), rtol=1e-4)


def test_losses_that_stay_as_they_are_get_equal_weights():
    for form in ("plain", "normalized"):
        weighting = W.SoftAdapt(beta=5.0, form=form)
        weighting.build((3,))
        for _ in range(3):
            end_epoch(weighting, EPOCHS[0])
        np.testing.assert_allclose(weighting(LOSSES), [1 / 3] * 3, rtol=1e-6)


@pytest.mark.oracle
def test_a_late_task_has_no_slope_and_the_mean_of_the_other_losses():
    there = np.array([1, 1, 0], "float32")
    means = EPOCHS.mean(axis=1)
    last, before_last = means[1].copy(), means[0].copy()
    last[2] = before_last[2] = last[:2].mean()
    for form in ("plain", "normalized", "loss_weighted"):
        weighting = W.SoftAdapt(beta=1.0, form=form)
        weighting.build((3,))
        for batches in EPOCHS[:2]:
            end_epoch(weighting, batches, there)
        weights = expected(last, before_last, 1.0, form)
        np.testing.assert_allclose(weighting(LOSSES), weights, rtol=1e-5)
        np.testing.assert_allclose(weighting(LOSSES, present=there), weights * there, rtol=1e-5)


def test_what_is_restored_goes_on():
    weighting, again = (W.SoftAdapt(beta=1.0) for _ in range(2))
    for w in (weighting, again):
        w.build((3,))
    for batches in EPOCHS[:2]:
        end_epoch(weighting, batches)
    store: dict = {}
    weighting.save_own_variables(store)
    again.load_own_variables(store)
    for batches in EPOCHS[2:]:
        np.testing.assert_array_equal(weighting(LOSSES), again(LOSSES))
        for w in (weighting, again):
            end_epoch(w, batches)
    assert np.ptp(again(LOSSES)) > 0.1


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"`form` should be one of .* Received: form='softmax'"):
        W.SoftAdapt(form="softmax")
    with pytest.raises(ValueError, match=r"`beta` should be a finite number, .* Received: beta=inf"):
        W.SoftAdapt(beta=float("inf"))
