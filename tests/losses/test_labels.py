"""Missing labels, class weights and sample spaces: what counts, worked out in NumPy."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl

RNG = np.random.default_rng(0)
N = 12
X = RNG.normal(size=(N, 4)).astype("float32")


def model_of(heads, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(6, activation="tanh", name="fc")], heads)
    # In graphs: the first test, and tests/losses/test_losses_of_any_shape.py.
    model.compile(**{"optimizer": keras.optimizers.SGD(0.0), "run_eagerly": True, **options})
    return model


def heads():
    return {"price": layers.Dense(1), "kind": layers.Dense(3, activation="softmax")}


LOSS = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
PRICE = RNG.normal(size=N).astype("float32")
KIND = RNG.integers(0, 3, N)
KNOWN_PRICE = np.arange(N) % 3 != 0
KNOWN_KIND = np.arange(N) < 5


def fit(model, y, **options):
    history = model.fit(X, y, **{"batch_size": N, "shuffle": False, "verbose": 0, **options}).history
    return {name: values[-1] for name, values in history.items()}


def by_hand(model, known_price=KNOWN_PRICE, known_kind=KNOWN_KIND):
    p = model.predict(X, verbose=0)
    price = ((p["price"][:, 0] - PRICE) ** 2)[known_price].mean()
    kind = -np.log(p["kind"][np.arange(N), KIND])[known_kind].mean()
    right = (p["kind"].argmax(-1) == KIND)[known_kind].mean()
    return {"price_loss": price, "kind_loss": kind, "kind_accuracy": right, "loss": price + kind}


def assert_logs(logs, expected):
    for name, value in expected.items():
        assert logs[name] == pytest.approx(float(value), rel=1e-5, nan_ok=True), name


@pytest.mark.parametrize("batch_size", [N, 5])
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_missing_by_task_nan_and_sentinel(batch_size, shape):
    missing = {"price": "nan", "kind": -1}
    options = {"metrics": {"kind": ["accuracy"]}, "missing": missing, "run_eagerly": (batch_size, shape) != (5, (N,))}
    model = model_of(heads(), loss=LOSS, **options)
    y = {
        "price": np.where(KNOWN_PRICE, PRICE, np.nan).astype("float32").reshape(shape),
        "kind": np.where(KNOWN_KIND, KIND, -1).reshape(shape),
    }
    assert_logs(fit(model, y, batch_size=batch_size), by_hand(model))
    logs = model.evaluate(X, y, batch_size=batch_size, verbose=0, return_dict=True)
    assert_logs(logs, by_hand(model))
    data = tf.data.Dataset.from_tensor_slices((X, y)).batch(batch_size)
    assert_logs(model.evaluate(data, verbose=0, return_dict=True), by_hand(model))


def test_missing_nan_for_all_tasks_leaves_integer_labels_alone():
    model = model_of(heads(), loss=LOSS, missing="nan")
    y = {"price": np.where(KNOWN_PRICE, PRICE, np.nan), "kind": KIND}
    expected = by_hand(model, known_kind=slice(None))
    del expected["kind_accuracy"]
    assert_logs(fit(model, y), expected)


def test_float_nan_means_the_same_as_its_name():
    y = {"price": np.where(KNOWN_PRICE, PRICE, np.nan), "kind": KIND}
    model = model_of(heads(), loss=LOSS, missing=float("nan"))
    assert_logs(fit(model, y), {"price_loss": by_hand(model)["price_loss"]})


def test_training_on_gaps_is_training_on_the_rest():
    """One task with gaps moves exactly as a model that saw the labelled rows alone."""
    gaps, rows = (model_of({"price": layers.Dense(1)}, loss="mse", missing="nan") for _ in range(2))
    rows.set_weights(gaps.get_weights())
    for model in (gaps, rows):
        model.compile(keras.optimizers.Adam(0.01), loss="mse", missing="nan", run_eagerly=True)
    gaps.fit(X, {"price": np.where(KNOWN_PRICE, PRICE, np.nan)}, batch_size=N, epochs=3, verbose=0)
    known = int(KNOWN_PRICE.sum())
    rows.fit(X[KNOWN_PRICE], {"price": PRICE[KNOWN_PRICE]}, batch_size=known, epochs=3, verbose=0)
    for a, b in zip(gaps.get_weights(), rows.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighting", ["equal", "uncertainty", "mgda"])
def test_absent_tasks_move_neither_head_nor_state(weighting):
    model = model_of(heads(), loss=LOSS, weighting=weighting)
    model.compile(keras.optimizers.SGD(0.1), loss=LOSS, weighting=weighting, run_eagerly=True)
    before = {v.path: v.numpy() for v in model.variables if "log_var" not in v.path}
    with pytest.warns(UserWarning, match="Task 'kind' had no labelled example in epoch 1"):
        logs = fit(model, {"price": PRICE})
    assert np.isnan(logs["kind_loss"]) and logs["kind_weight"] == 0.0
    for path, old in before.items():
        moved = np.abs({v.path: v for v in model.variables}[path].numpy() - old).max()
        assert (moved > 0) == (not path.startswith("kind/")), path
    if weighting == "uncertainty":
        log_var = model.weighting.log_var.numpy()
        assert log_var[0] != 0.0 and log_var[1] == 0.0
    if weighting == "mgda":
        assert logs["price_weight"] == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:Task 'kind' had no labelled:UserWarning")
def test_absent_tasks_in_tf_data_and_in_evaluation():
    model = model_of(heads(), loss=LOSS, metrics={"kind": ["accuracy"]})
    data = tf.data.Dataset.from_tensor_slices((X, {"price": PRICE})).batch(5)
    expected = {"price_loss": by_hand(model, known_price=slice(None))["price_loss"], "kind_loss": np.nan}
    assert_logs(fit_data(model, data), expected)
    logs = model.evaluate(data, verbose=0, return_dict=True)
    assert_logs(logs, {**expected, "loss": expected["price_loss"], "kind_accuracy": np.nan})


def fit_data(model, data):
    return {name: values[-1] for name, values in model.fit(data, verbose=0).history.items()}


def test_single_entries_of_a_label_may_be_missing():
    """Multi-label blocks: every entry counts for itself."""
    bits = RNG.integers(0, 2, (N, 5)).astype("float32")
    known = RNG.random((N, 5)) < 0.6
    model = model_of(
        {"tags": layers.Dense(5, activation="sigmoid"), "values": layers.Dense(5)},
        loss={"tags": "binary_crossentropy", "values": keras.losses.Huber(delta=0.5)},
        metrics={"tags": ["binary_accuracy"], "values": ["mae"]},
        missing={"tags": "nan", "values": -9},
    )
    y = {"tags": np.where(known, bits, np.nan), "values": np.where(known, bits, -9)}
    p = model.predict(X, verbose=0)
    entropies = -np.log(np.where(bits == 1, p["tags"], 1 - p["tags"]))
    error = np.abs(bits - p["values"])
    huber = np.where(error <= 0.5, error**2 / 2, 0.5 * error - 0.125)
    expected = {
        "tags_loss": entropies[known].mean(),
        "tags_binary_accuracy": ((p["tags"] > 0.5) == bits)[known].mean(),
        "values_loss": huber[known].mean(),
        "values_mae": error[known].mean(),
    }
    assert_logs(fit(model, y), expected)
    assert_logs(fit(model, y, batch_size=5), expected)

    # Entry-wise sample weights say the same; a weight for each example multiplies in.
    model.compile(keras.optimizers.SGD(0.0), loss={"tags": "binary_crossentropy"}, run_eagerly=True)
    logs = fit(model, {"tags": np.nan_to_num(y["tags"])}, sample_weight={"tags": known.astype("float32")})
    assert_logs(logs, {"tags_loss": expected["tags_loss"]})
    model.compile(keras.optimizers.SGD(0.0), loss={"tags": "binary_crossentropy"}, missing="nan", run_eagerly=True)
    row = np.linspace(0.5, 2.0, N, dtype="float32")
    logs = fit(model, {"tags": y["tags"]}, sample_weight={"tags": row})
    assert_logs(logs, {"tags_loss": (entropies * row[:, None])[known].mean()})


def test_a_one_hot_label_is_missing_as_a_whole():
    onehot = np.eye(3, dtype="float32")[KIND]
    onehot[~KNOWN_KIND] = np.nan
    options = dict(loss={"kind": "categorical_crossentropy"}, metrics={"kind": ["accuracy"]}, missing="nan")
    model = model_of(heads(), **options)
    expected = by_hand(model)
    assert_logs(fit(model, {"kind": onehot}), {k: expected[k] for k in ("kind_loss", "kind_accuracy")})


@pytest.mark.parametrize("channel", [False, True])
def test_missing_pixels(channel):
    labels = RNG.integers(0, 3, (4, 5, 5))
    labels[RNG.random((4, 5, 5)) < 0.5] = 255
    trunk, head = layers.Conv2D(2, 3, padding="same"), layers.Conv2D(3, 1, activation="softmax")
    model = keras_mtl.hard_sharing(keras.Input((5, 5, 1)), [trunk], {"seg": head})
    options = {"metrics": {"seg": ["accuracy"]}, "missing": 255, "run_eagerly": True}
    model.compile("sgd", loss="sparse_categorical_crossentropy", **options)
    x = RNG.normal(size=(4, 5, 5, 1)).astype("float32")
    p, known = model.predict(x, verbose=0)["seg"], labels != 255
    values = -np.log(np.take_along_axis(p, np.where(known, labels, 0)[..., None], -1))[..., 0]
    y = {"seg": labels[..., None] if channel else labels}
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert_logs(logs, {"seg_loss": values[known].mean(), "seg_accuracy": (p.argmax(-1) == labels)[known].mean()})


def test_sample_space_trains_and_evaluates_inside():
    """The price is learned only where the kind is 1, whatever the labels outside."""
    model = model_of(heads(), loss=LOSS, metrics={"price": ["mae"]}, sample_space={"price": "kind"})
    inside = KIND == 1
    price = np.where(inside, PRICE, 1e30).astype("float32")
    p = model.predict(X, verbose=0)["price"][:, 0]
    expected = {"price_loss": ((p - PRICE) ** 2)[inside].mean(), "price_mae": np.abs(p - PRICE)[inside].mean()}
    assert_logs(fit(model, {"price": price, "kind": KIND}), expected)
    assert_logs(model.evaluate(X, {"price": price, "kind": KIND}, verbose=0, return_dict=True), expected)
    with pytest.raises(ValueError, match="`sample_space` trains task 'price' where the label of 'kind' is 1"):
        fit(model, {"price": price})


def test_sample_space_needs_labels_of_the_same_examples_or_entries():
    """TensorFlow would say that shapes are incompatible, or broadcast."""
    made = {"price": layers.Dense(3), "kind": layers.Dense(2, activation="sigmoid")}
    model = model_of(
        made, loss={"price": "mse", "kind": "binary_crossentropy"}, sample_space={"price": "kind"}, missing="nan"
    )
    y = {"price": np.zeros((N, 3), "float32"), "kind": np.ones((N, 2), "float32")}
    with pytest.raises(ValueError, match=r"`sample_space` trains task 'price' .* Received: labels of shape \(\d+, 2\)"):
        model.train_on_batch(X, y)


def test_sample_space_and_missing_labels_together():
    model = model_of(heads(), loss=LOSS, sample_space={"price": "kind"}, missing={"price": "nan", "kind": -1})
    kind = np.where(KNOWN_KIND, KIND, -1)
    price = np.where(KNOWN_PRICE, PRICE, np.nan)
    inside = (kind == 1) & KNOWN_PRICE
    p = model.predict(X, verbose=0)["price"][:, 0]
    assert_logs(fit(model, {"price": price, "kind": kind}), {"price_loss": ((p - PRICE) ** 2)[inside].mean()})


@pytest.mark.parametrize("onehot", [False, True])
def test_class_weight_with_missing_labels_and_sample_weights(onehot):
    by_class = {0: 0.5, 2: 3.0}  # 1 is left out and weighs 1
    loss = "categorical_crossentropy" if onehot else "sparse_categorical_crossentropy"
    missing = "nan" if onehot else -1
    model = model_of(heads(), loss={"kind": loss}, class_weight={"kind": by_class}, missing={"kind": missing})
    y = np.eye(3)[KIND] if onehot else KIND.copy()
    y[~KNOWN_KIND] = np.nan if onehot else -1
    sample = np.linspace(0.5, 1.5, N, dtype="float32")
    p = model.predict(X, verbose=0)["kind"]
    weights = np.array([0.5, 1.0, 3.0])[KIND] * sample
    expected = (-np.log(p[np.arange(N), KIND]) * weights)[KNOWN_KIND].mean()
    assert_logs(fit(model, {"kind": y}, sample_weight={"kind": sample}), {"kind_loss": expected})


def test_warning_of_a_task_without_labels_names_it_and_nothing_else_is_nan():
    model = model_of(heads(), loss=LOSS, missing="nan", metrics={"price": ["mae"]})
    y = {"price": np.full(N, np.nan, "float32"), "kind": KIND}
    with pytest.warns(UserWarning, match="no labelled example") as caught:
        history = model.fit(X, y, epochs=2, verbose=0, validation_data=(X, y)).history
    said = [str(w.message) for w in caught if "no labelled example" in str(w.message)]
    places = ("the validation data", "epoch 1", "epoch 2")
    assert [("Task 'price'" in s, place in s) for s, place in zip(said, places, strict=True)] == [(True, True)] * 3
    for log, values in history.items():
        assert np.isnan(values).all() if "price_" in log and log != "price_weight" else np.isfinite(values).all(), log
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_no_warning_where_all_tasks_have_labels():
    model = model_of(heads(), loss=LOSS)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Task|The loss of task")
        model.fit(X, {"price": PRICE, "kind": KIND}, batch_size=5, verbose=0)


@pytest.mark.parametrize("weighting", ["uncertainty", "mgda"])
def test_loss_is_the_static_total_and_evaluation_ignores_dynamic_weights(weighting):
    model = model_of(heads(), loss=LOSS)
    options = {"weighting": weighting, "loss_weights": {"price": 3.0}, "run_eagerly": True}
    model.compile(keras.optimizers.SGD(0.05), loss=LOSS, **options)
    y = {"price": PRICE, "kind": KIND}
    history = model.fit(X, y, batch_size=5, epochs=3, verbose=0, validation_data=(X, y)).history
    for prefix in ("", "val_"):
        total = 3 * np.array(history[f"{prefix}price_loss"]) + np.array(history[f"{prefix}kind_loss"])
        np.testing.assert_allclose(history[f"{prefix}loss"], total, rtol=1e-5)
    assert np.abs(np.diff(history["price_weight"])).min() > 1e-4
    assert not [name for name in history if name.startswith("val_") and name.endswith("weight")]
    loss = model.evaluate(X, y, verbose=0, return_dict=True)
    assert_logs(loss, {k: v for k, v in by_hand(model, slice(None), slice(None)).items() if k.endswith("e_loss")})
    if weighting == "uncertainty":
        model.weighting.log_var.assign([2.0, -2.0])
        assert model.evaluate(X, y, verbose=0, return_dict=True) == loss


def test_a_class_that_the_loss_ignores_is_unlabelled():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    model = model_of(heads(), loss={"kind": loss})
    logs = fit(model, {"kind": KIND}, batch_size=5)
    assert_logs(logs, {"kind_loss": by_hand(model, known_kind=KIND != 2)["kind_loss"]})


@pytest.mark.parametrize(
    ("task", "labels"),
    [("price", PRICE[:, None].repeat(3, axis=1)), ("price", PRICE[:-1]), ("kind", np.eye(3)[KIND]), ("kind", KIND[1:])],
)
def test_labels_that_do_not_belong_to_the_predictions(task, labels):
    """They would be broadcast, or fail in words of TensorFlow."""
    model = model_of(heads(), loss=LOSS, run_eagerly=True)
    shorter = f"`y` of task '{task}' should have as many examples as `x`, {N}. Received: {N - 1}"
    says = f"labels of task '{task}' should have the shape" if len(labels) == N else shorter
    with pytest.raises(ValueError, match=says):
        model.train_on_batch(X, {task: labels})


def test_a_loss_of_vectors_keeps_the_axis_that_they_lie_along():
    """Without it, Keras compares along the axis before: here it would be one number for the batch."""
    model = model_of({"price": layers.Dense(1)}, loss="cosine_similarity", run_eagerly=True)
    model.train_on_batch(X, {"price": PRICE[:, None]})
    with pytest.raises(ValueError, match=r"labels of task 'price' should have the shape .*\(\d+,\)"):
        model.train_on_batch(X, {"price": PRICE})


def test_a_last_axis_of_one_may_be_there_or_not():
    model = model_of(heads(), loss=LOSS, run_eagerly=True)
    flat = model.test_on_batch(X, {"price": PRICE, "kind": KIND}, return_dict=True)
    assert flat == model.test_on_batch(X, {"price": PRICE[:, None], "kind": KIND[:, None]}, return_dict=True)


@pytest.mark.parametrize("weighting", ["equal", "mgda", "graddrop"])
def test_a_batch_without_any_labels_changes_nothing(weighting):
    model = model_of(heads(), loss=LOSS, optimizer="adam", weighting=weighting, run_eagerly=True)
    before = model.get_weights()
    logs = model.train_on_batch(X, {}, return_dict=True)
    assert all(np.isnan(logs.pop(f"{task}_loss")) for task in ("price", "kind"))
    assert all(np.isfinite(value) for value in logs.values())
    for v, w in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(v, w)


def test_a_metric_that_does_not_fit_its_task_is_named():
    model = model_of(heads(), loss=LOSS, metrics={"kind": ["mae"]}, run_eagerly=True)
    with pytest.raises(
        ValueError, match=r"metric 'mean_absolute_error' of task 'kind' should take.*\(12,\) and \(12, 3\)"
    ):
        model.train_on_batch(X, {"kind": KIND})
