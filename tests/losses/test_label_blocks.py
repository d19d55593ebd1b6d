"""Blocks: many binary tasks as the units of one head, of which single entries are labelled. Worked out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl

RNG = np.random.default_rng(0)
N, L = 24, 5
X = RNG.normal(size=(N, 4)).astype("float32")
BITS = RNG.integers(0, 2, (N, L)).astype("float32")
KNOWN = RNG.random((N, L)) < 0.6
KNOWN[5:10] = False  # a batch of 5 without any label
GAPS = np.where(KNOWN, BITS, np.nan).astype("float32")
PRICE = RNG.normal(size=N).astype("float32")


def model_of(**options):
    keras.utils.set_random_seed(0)
    heads = {"tags": layers.Dense(L, activation="sigmoid", name="out"), "price": layers.Dense(1)}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(6, activation="tanh", name="fc")], heads)
    options = {"loss": {"tags": "binary_crossentropy", "price": "mse"}, **options}
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, **options)
    return model


def entropies(model):
    p = model.predict(X, verbose=0)["tags"]
    return -np.log(np.where(BITS == 1, p, 1 - p))


def test_mask_arrays_in_fit_and_evaluate():
    model = model_of(metrics={"tags": ["binary_accuracy"]})
    y, mask = {"tags": BITS, "price": PRICE}, {"tags": KNOWN}  # no mask for the price
    p = model.predict(X, verbose=0)
    expected = {
        "tags_loss": entropies(model)[KNOWN].mean(),
        "tags_binary_accuracy": ((p["tags"] > 0.5) == BITS)[KNOWN].mean(),
        "price_loss": np.mean((p["price"][:, 0] - PRICE) ** 2),
    }
    data = tf.data.Dataset.from_tensor_slices((X, y, mask)).batch(5)
    found = [
        {k: v[-1] for k, v in model.fit(X, y, sample_weight=mask, batch_size=5, verbose=0).history.items()},
        model.evaluate(X, y, sample_weight=mask, batch_size=5, verbose=0, return_dict=True),
        model.evaluate(data, verbose=0, return_dict=True),
    ]
    for logs in found:
        assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Task 'tags' had no labelled example:UserWarning")
def test_masks_of_examples_and_of_columns_of_one():
    model = model_of()
    p = model.predict(X, verbose=0)["price"][:, 0]
    expected = np.mean(((p - PRICE) ** 2)[KNOWN[:, 0]])
    for mask in (KNOWN[:, 0], KNOWN[:, :1]):
        logs = model.evaluate(X, {"price": PRICE[:, None]}, sample_weight={"price": mask}, verbose=0, return_dict=True)
        assert logs["price_loss"] == pytest.approx(expected, rel=1e-5)


def test_class_weight_is_that_of_single_entries():
    weights = np.where(BITS == 1, 3.0, 0.5)
    rows = np.linspace(0.5, 1.5, N, dtype="float32")
    model = model_of(class_weight={"tags": {0: 0.5, 1: 3.0}})
    values = entropies(model)
    log = model.fit(X, {"tags": BITS, "price": PRICE}, batch_size=N, verbose=0).history
    assert log["tags_loss"][0] == pytest.approx((values * weights).mean(), rel=1e-5)
    log = model.fit(X, {"tags": BITS, "price": PRICE}, sample_weight={"tags": rows}, batch_size=N, verbose=0).history
    assert log["tags_loss"][0] == pytest.approx((values * weights * rows[:, None]).mean(), rel=1e-5)
    model = model_of(class_weight={"tags": {0: 0.5, 1: 3.0}}, missing={"tags": "nan"})
    log = model.fit(X, {"tags": GAPS, "price": PRICE}, batch_size=N, verbose=0).history
    assert log["tags_loss"][0] == pytest.approx((values * weights)[KNOWN].mean(), rel=1e-5)


def test_class_weight_of_one_hot_vectors_under_an_elementwise_loss():
    onehot = np.eye(L, dtype="float32")[RNG.integers(0, L, N)]
    model = model_of(class_weight={"tags": {2: 4.0}})
    p = model.predict(X, verbose=0)["tags"]
    values = -np.log(np.where(onehot == 1, p, 1 - p)).mean(-1) * np.where(onehot[:, 2] == 1, 4.0, 1.0)
    log = model.fit(X, {"tags": onehot, "price": PRICE}, batch_size=N, verbose=0).history
    assert log["tags_loss"][0] == pytest.approx(values.mean(), rel=1e-5)


def test_a_saturated_sigmoid_keeps_its_logits():
    """Masked or not, the loss of a sure and wrong unit is its logit, not what is left of its probability."""
    for missing in (None, "nan"):
        model = model_of(missing=missing)
        for variable in model.task_variables("tags"):
            variable.assign(keras.ops.full(variable.shape, 30.0 if "bias" in variable.path else 0.0))
        log = model.fit(X, {"tags": np.zeros((N, L), "float32"), "price": PRICE}, verbose=0).history
        assert log["tags_loss"][0] == pytest.approx(30.0, rel=1e-6)


def test_metrics_that_keep_a_number_for_each_label():
    metrics = [
        keras.metrics.AUC(multi_label=True, num_labels=L, num_thresholds=1000, name="keras_auc"),
        keras.metrics.F1Score(average="macro", threshold=0.5, name="f1"),
        keras.metrics.R2Score(class_aggregation="uniform_average", name="r2"),
        keras_mtl.metrics.LabelwiseAUC(L, num_thresholds=1000, name="auc"),
        keras_mtl.metrics.LabelwiseMean(L, name="accuracy"),
    ]
    model = model_of(missing={"tags": "nan"}, metrics={"tags": metrics})
    p = model.predict(X, verbose=0)["tags"]
    areas, by_keras, f1, r2, right = [], [], [], [], []
    for label in range(L):
        y, s = BITS[KNOWN[:, label], label], p[KNOWN[:, label], label]
        areas.append(np.mean((s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])))
        alone = keras.metrics.AUC(num_thresholds=1000)
        alone.update_state(y, s)
        by_keras.append(float(alone.result()))
        f1.append(2 * ((s > 0.5) * y).sum() / max((s > 0.5).sum() + y.sum(), 1))
        r2.append(1 - ((y - s) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        right.append(np.mean((s > 0.5) == y))
    logs = model.evaluate(X, {"tags": GAPS, "price": PRICE}, batch_size=5, verbose=0, return_dict=True)
    assert np.isfinite(areas).all()
    assert logs["tags_keras_auc"] == pytest.approx(np.mean(by_keras), rel=1e-5)
    assert logs["tags_auc"] == pytest.approx(np.mean(areas), rel=5e-3)  # scores less than 1/1000 apart are ties
    assert logs["tags_f1"] == pytest.approx(np.mean(f1), rel=1e-5)
    assert logs["tags_r2"] == pytest.approx(np.mean(r2), rel=1e-4)
    assert logs["tags_accuracy"] == pytest.approx(np.mean(right), rel=1e-5)


@pytest.mark.parametrize("metric", [keras.metrics.CosineSimilarity(), keras.metrics.F1Score(average="macro")])
def test_metrics_that_cannot_leave_out_single_entries_say_so(metric):
    model = model_of(missing={"tags": "nan"}, metrics={"tags": [metric]})
    with pytest.raises(ValueError, match="task 'tags'"):
        model.evaluate(X, {"tags": GAPS, "price": PRICE}, verbose=0)


def test_labelwise_metrics_run_in_graphs():
    metrics = [keras_mtl.metrics.LabelwiseAUC(L), keras_mtl.metrics.LabelwiseMean(L)]
    model = model_of(missing={"tags": "nan"}, metrics={"tags": metrics})
    y = {"tags": GAPS, "price": PRICE}
    eager = model.evaluate(X, y, batch_size=4, verbose=0, return_dict=True)
    model.compile(
        "sgd",
        loss={"tags": "binary_crossentropy", "price": "mse"},
        missing={"tags": "nan"},
        metrics={"tags": metrics},
        jit_compile=True,
        steps_per_execution=3,
    )
    assert model.evaluate(X, y, batch_size=4, verbose=0, return_dict=True) == pytest.approx(eager, rel=1e-4)
