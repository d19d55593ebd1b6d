"""Counts of known labels, against sums over arrays."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.data import missing_report

RNG = np.random.default_rng(0)
N, L = 200, 6
KNOWN = {"price": RNG.random(N) < 0.6, "kind": np.arange(N) % 4 == 0, "tags": RNG.random((N, L)) < 0.3}
KNOWN["tags"][:, 2] = False
PRICE, KIND = RNG.normal(size=N), RNG.integers(0, 3, N)
TAGS = RNG.integers(0, 2, (N, L)).astype("float32")
TAGS[:, 4] = 1.0
Y = {
    "price": np.where(KNOWN["price"], PRICE, np.nan),
    "kind": np.where(KNOWN["kind"], KIND, -1),
    "tags": np.where(KNOWN["tags"], TAGS, np.nan),
}
MISSING = {"price": "nan", "kind": -1, "tags": float("nan")}
TASKS = tuple(Y)
SEEN = np.stack([KNOWN["price"], KNOWN["kind"], KNOWN["tags"].any(1)], 1)


def assert_counts(report):
    assert report.tasks == TASKS and report.examples == N
    assert report.counts == dict(zip(TASKS, SEEN.sum(0).tolist(), strict=True))
    assert report.rates == pytest.approx(dict(zip(TASKS, SEEN.mean(0), strict=True)))
    assert report.entry_rates == pytest.approx({task: KNOWN[task].mean() for task in TASKS})
    expected = [[(SEEN[:, i] & SEEN[:, j]).sum() / SEEN[:, i].sum() for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(report.overlap, expected)
    np.testing.assert_array_equal(report.label_counts["tags"], KNOWN["tags"].sum(0))


def test_arrays_with_sentinels_and_with_masks():
    assert_counts(missing_report(Y, missing=MISSING))
    full = {"price": PRICE, "kind": KIND, "tags": TAGS}
    assert_counts(missing_report(full, sample_weight=KNOWN))
    column = {"price": PRICE[:, None], "kind": KIND[:, None], "tags": TAGS}
    assert_counts(missing_report(column, sample_weight={**KNOWN, "kind": KNOWN["kind"][:, None].astype("float32")}))


def test_large_arrays_are_read_in_parts():
    y = {"a": np.where(np.arange(20_000) % 3 == 0, 1.0, np.nan)}
    assert missing_report(y, missing="nan").counts == {"a": 6667}


@pytest.mark.parametrize("form", ["y", "xy", "xyw"])
def test_data_sets(form):
    x = np.zeros((N, 2))
    full = {"price": PRICE, "kind": KIND, "tags": TAGS}
    parts = {"y": Y, "xy": (x, Y), "xyw": (x, full, KNOWN)}[form]
    data = tf.data.Dataset.from_tensor_slices(parts).batch(32)
    assert_counts(missing_report(data, missing=None if form == "xyw" else MISSING))
    assert_counts(missing_report(data.repeat(), missing=None if form == "xyw" else MISSING, steps=7))


def test_tasks_without_any_label():
    def elements():
        yield np.zeros((4, 2), "float32"), {"a": np.ones(4, "float32"), "b": np.zeros(4, "float32")}, {"b": np.zeros(4)}

    shape = tf.TensorSpec((None,), "float32")
    signature = (tf.TensorSpec((None, 2)), {"a": shape, "b": shape}, {"b": tf.TensorSpec((None,), "float64")})
    data = tf.data.Dataset.from_generator(elements, output_signature=signature)
    report = missing_report(data, tasks=["a", "b", "c"])
    assert report.counts == {"a": 4, "b": 0, "c": 0}
    assert np.isnan(report.overlap[1:]).all() and report.overlap[0].tolist() == [1.0, 0.0, 0.0]
    said = " ".join(report.warnings)
    assert "Task 'c' is not among the labels" in said and "Task 'b' has no known label in 4 examples" in said


def test_sample_space_and_weights_are_what_training_counts():
    clicked = RNG.integers(0, 2, N)
    y = {"clicked": clicked, "bought": clicked * RNG.integers(0, 2, N)}
    weight = RNG.integers(0, 2, N)
    report = missing_report(y, sample_space={"bought": "clicked"}, sample_weight=weight)
    assert report.counts == {"clicked": weight.sum(), "bought": ((clicked == 1) & (weight > 0)).sum()}


def test_label_weights_make_labels_count_alike():
    report = missing_report({"tags": Y["tags"]}, missing="nan")
    weights = KNOWN["tags"] * report.label_weights("tags")
    by_label = np.delete(weights.sum(0), 2)
    np.testing.assert_allclose(by_label, by_label[0], rtol=1e-5)
    assert weights.sum() == pytest.approx(KNOWN["tags"].sum(), rel=1e-5) and report.label_weights("tags")[2] == 0
    with pytest.raises(ValueError, match="`task` should have vectors of labels"):
        report.label_weights("price")


def warnings_of(y, **options):
    return missing_report(y, **options).warnings


def test_nothing_to_say_of_complete_labels():
    assert warnings_of({"price": PRICE, "kind": KIND}) == []


WARNINGS = [
    ({"a": Y["price"]}, {}, "Task 'a' has {nan} NaN that `missing` does not name"),
    ({"a": Y["kind"]}, {}, "Task 'a' has -1 among its integers"),
    ({"a": np.ones(N)}, {}, "All known labels of task 'a' are 1: there is nothing to learn"),
    ({"a": np.full(N, np.nan)}, {"missing": "nan"}, "Task 'a' has no known label in 200 examples"),
    ({"tags": Y["tags"]}, {"missing": "nan"}, "1 of the 6 labels of task 'tags' have no known entry"),
    ({"tags": Y["tags"]}, {"missing": "nan"}, "1 of the 6 labels of task 'tags' are known with one value only"),
    (
        {"a": np.where(np.arange(N) < 2, PRICE, np.nan)},
        {"missing": "nan", "batch_size": 50},
        "Task 'a' has labels in 1 % of the examples: of batches of 50 about 61 % have none",
    ),
    (
        {"a": np.where(np.arange(N) < 99, PRICE, np.nan), "b": np.where(np.arange(N) < 99, np.nan, PRICE)},
        {"missing": "nan"},
        "Never labelled together: 'a' and 'b'",
    ),
    ({"a": Y["price"]}, {"missing": "nan"}, "{nan} of 200 examples ({share:.2g} %) have no label of any task"),
]


@pytest.mark.parametrize(("y", "options", "message"), WARNINGS)
def test_warnings(y, options, message):
    message = message.format(nan=(~KNOWN["price"]).sum(), share=100 * (~KNOWN["price"]).mean())
    assert [w for w in warnings_of(y, **options) if message in w]


def test_batches_of_a_data_set_are_counted_as_they_are():
    y = {"a": np.where(np.arange(N) < 100, PRICE, np.nan)}
    data = tf.data.Dataset.from_tensor_slices((PRICE, y)).batch(50)
    assert any("50 % of the examples: of the batches 50 % have none" in w for w in warnings_of(data, missing="nan"))


def test_many_tasks_that_never_meet_are_counted_not_listed():
    y = {f"t{i}": np.where(np.arange(N) % 8 == i, PRICE, np.nan) for i in range(8)}
    (said,) = (w for w in warnings_of(y, missing="nan") if "Never" in w)
    assert said.count("' and 't") == 5 and "and 23 more" in said


def test_it_prints():
    text = str(missing_report(Y, missing=MISSING))
    assert "Labels of 200 examples" in text and "price" in text and "- 1 of the 6 labels" in text


BAD = [
    (PRICE, {}, "`y` should be a dict"),
    ({"a": PRICE, "b": PRICE[:5]}, {}, "200 of task 'a' and 5 of task 'b'"),
    ({"a": np.float32(1.0)}, {}, "a first axis of examples"),
    ({}, {}, "a first axis of examples"),
    ({"a": PRICE}, {"missing": {"b": "nan"}}, "`missing` should name tasks"),
    ({"a": PRICE}, {"sample_space": {"a": "b"}}, "`sample_space` should name tasks"),
    (tf.data.Dataset.from_tensors((1.0, {"a": [1.0]})).repeat(), {}, "`steps` should be given"),
    (tf.data.Dataset.from_tensors((1.0, {"a": [1.0]})).take(0), {}, "an empty data set"),
    (tf.data.Dataset.from_tensors((1.0, [1.0])), {}, "Labels should be a dict"),
    (tf.data.Dataset.from_tensor_slices((PRICE, {"a": PRICE})), {}, "a data set should be batched"),
]


@pytest.mark.parametrize(("y", "options", "message"), BAD)
def test_bad_input(y, options, message):
    with pytest.raises(ValueError, match=message):
        missing_report(y, **options)
