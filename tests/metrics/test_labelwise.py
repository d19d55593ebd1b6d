"""Metrics of multi-label blocks, against loops over the labels."""

import keras
import numpy as np
import pytest

from keras_mtl.metrics import LabelwiseAUC, LabelwiseMean

RNG = np.random.default_rng(0)
N, L = 60, 7
BITS = RNG.integers(0, 2, (N, L)).astype("float32")
SCORES = RNG.integers(0, 41, (N, L)) / 40 * 0.99  # few values, so that there are ties; none across bins of 1/200
KNOWN = RNG.random((N, L)) < 0.4
KNOWN[:, 3] = False  # a label without any known entry
KNOWN[:, 4] &= BITS[:, 4] == 1  # and one without a known negative


def fed(metric, weight):
    for part in np.array_split(np.arange(N), 4):
        metric.update_state(BITS[part], SCORES[part], None if weight is None else weight[part])
    return metric


def areas(known):
    found = np.full(L, np.nan)
    for label in range(L):
        rows = known[:, label]
        high = SCORES[rows & (BITS[:, label] == 1), label][:, None]
        low = SCORES[rows & (BITS[:, label] == 0), label]
        if high.size and low.size:
            found[label] = np.mean((high > low) + 0.5 * (high == low))
    return found


@pytest.mark.oracle
def test_areas_are_those_of_pairs():
    metric = fed(LabelwiseAUC(L), KNOWN.astype("float32"))
    expected = areas(KNOWN)
    np.testing.assert_allclose(metric.by_label(), expected, rtol=1e-5)
    assert np.isnan(expected[[3, 4]]).all() and np.isfinite(expected).sum() == L - 2
    assert float(metric.result()) == pytest.approx(np.nanmean(expected), rel=1e-5)
    metric.reset_state()
    assert float(fed(metric, None).result()) == pytest.approx(areas(np.ones((N, L), bool)).mean(), rel=1e-5)


def test_area_of_logits_is_that_of_their_probabilities():
    logits = np.log(np.clip(SCORES, 1e-6, None) / (1 - SCORES))
    metric = LabelwiseAUC(L, from_logits=True)
    metric.update_state(BITS, logits)
    assert float(metric.result()) == pytest.approx(areas(np.ones((N, L), bool)).mean(), rel=1e-3)


@pytest.mark.oracle
@pytest.mark.parametrize("function", ["binary_accuracy", "mae", keras.metrics.BinaryAccuracy(threshold=0.3)])
def test_mean_of_a_function_by_label(function):
    weight = KNOWN * RNG.integers(1, 4, (N, L)).astype("float32")
    metric = fed(LabelwiseMean(L, function), weight)
    if function == "mae":
        values = np.abs(BITS - SCORES)
    else:
        threshold = 0.5 if function == "binary_accuracy" else 0.3
        values = (threshold < SCORES) == (BITS > 0)
    with np.errstate(invalid="ignore"):
        expected = (values * weight).sum(0) / weight.sum(0)
    np.testing.assert_allclose(metric.by_label(), expected, rtol=1e-5)
    assert float(metric.result()) == pytest.approx(np.nanmean(expected), rel=1e-5)


def test_weights_of_examples_count_for_all_their_labels():
    rows = (np.arange(N) < 10).astype("float32")
    for make in (lambda: LabelwiseMean(L), lambda: LabelwiseAUC(L)):
        by_row, by_entry = fed(make(), rows), fed(make(), np.repeat(rows[:, None], L, 1))
        np.testing.assert_array_equal(by_row.by_label(), by_entry.by_label())


def test_config_round_trip():
    strict = keras.metrics.BinaryAccuracy(threshold=0.2)
    for metric in (LabelwiseMean(3, "mse"), LabelwiseMean(3, strict), LabelwiseAUC(3)):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
        for one in (metric, again):
            one.update_state(BITS[:, :3], SCORES[:, :3])
        assert again.name == metric.name and float(again.result()) == float(metric.result())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LabelwiseMean(0), "`num_labels` should be an integer of at least 1"),
        (lambda: LabelwiseMean(3, "auc"), "`function` should be a function"),
        (lambda: LabelwiseAUC(3, num_thresholds=1), "`num_thresholds` should be"),
        (lambda: LabelwiseAUC(3).update_state(BITS, SCORES), r"predictions of shape \(N, 3\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
