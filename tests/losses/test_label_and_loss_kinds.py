"""Kinds of labels, losses and metrics that once gave wrong numbers without a word, each against NumPy."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl

RNG = np.random.default_rng(0)
N = 12
X = RNG.normal(size=(N, 4)).astype("float32")


def model_of(head, inputs=None, stages=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,)) if inputs is None else inputs
    stages = [layers.Dense(6, activation="tanh")] if stages is None else stages
    model = keras_mtl.hard_sharing(inputs, stages, {"a": head})
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, **options)
    return model


def evaluate(model, y, x=X, **options):
    return model.evaluate(x, {"a": y}, verbose=0, return_dict=True, **options)


def squared(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("training", [False, True])
def test_flat_labels_under_an_own_function_are_no_pairs(training):
    y = X[:, 0].copy()
    model = model_of(layers.Dense(1), loss={"a": squared})
    p = model.predict(X, verbose=0)["a"][:, 0]
    said = model.fit(X, {"a": y}, verbose=0).history["a_loss"][0] if training else evaluate(model, y)["a_loss"]
    assert said == pytest.approx(np.mean((p - y) ** 2), rel=1e-5)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("steps", [False, True])
def test_class_weight_of_classes_in_a_column(column, steps):
    x = RNG.normal(size=(N, 3, 4)).astype("float32") if steps else X
    kinds = RNG.integers(0, 3, x.shape[:-1])
    weight = {0: 1.0, 1: 5.0, 2: 0.5}
    model = model_of(
        layers.Dense(3, activation="softmax"),
        keras.Input(x.shape[1:]),
        loss="sparse_categorical_crossentropy",
        class_weight={"a": weight},
    )
    p = model.predict(x, verbose=0)["a"]
    entropies = -np.log(np.take_along_axis(p, kinds[..., None], -1)[..., 0])
    expected = np.mean(entropies * np.vectorize(weight.get)(kinds))
    labels = kinds[..., None] if column else kinds
    assert model.fit(x, {"a": labels}, verbose=0).history["a_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_class_weight_of_classes_below_zero():
    weight = {-1: 3.0, 1: 0.5}
    signs = np.where(np.arange(N) % 3 == 0, -1, 1)
    model = model_of(layers.Dense(1), loss="hinge", class_weight={"a": weight})
    p = model.predict(X, verbose=0)["a"][:, 0]
    expected = np.mean(np.maximum(1 - signs * p, 0) * np.vectorize(weight.get)(signs))
    assert model.fit(X, {"a": signs}, verbose=0).history["a_loss"][0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("dtype", "missing"),
    [("bool", -1), ("uint8", -1), ("int8", 300), ("int32", 0.5), ("bool", 0.5), ("float16", 1e6)],
)
def test_a_sentinel_that_labels_cannot_be_matches_none_of_them_and_is_told_of(dtype, missing):
    flag = (np.arange(N) % 3 == 0).astype(dtype)
    model = model_of(layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy", missing=missing)
    p = model.predict(X, verbose=0)["a"][:, 0]
    expected = -np.where(flag.astype(bool), np.log(p), np.log(1 - p)).mean()
    with pytest.warns(UserWarning, match=f"`missing` of task 'a' is {missing}, which labels of {dtype} cannot be"):
        logs = model.test_on_batch(X, {"a": ops.convert_to_tensor(flag)}, return_dict=True)
    assert logs["a_loss"] == pytest.approx(expected, rel=2e-3 if dtype == "float16" else 1e-5)


@pytest.mark.parametrize(("dtype", "missing", "value"), [("bool", 1, True), ("uint8", 255, 255), ("int16", -7.0, -7)])
def test_a_sentinel_that_labels_can_be_is_found(dtype, missing, value):
    labels = np.zeros(N, dtype)
    labels[::2] = value
    model = model_of(layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy", missing=missing)
    p = model.predict(X, verbose=0)["a"][:, 0]
    expected = -np.log(1 - p)[1::2].mean()
    assert evaluate(model, labels)["a_loss"] == pytest.approx(expected, rel=1e-5)


MAPS = RNG.normal(size=(6, 4, 4, 1)).astype("float32")
MASKS = (RNG.random((6, 4, 4, 1)) > 0.5).astype("float32")


def map_model(**options):
    return model_of(
        layers.Conv2D(1, 1, activation="sigmoid"),
        keras.Input((4, 4, 1)),
        [layers.Conv2D(3, 3, padding="same")],
        **options,
    )


def dice_of(y, p):
    axes = tuple(range(1, y.ndim))
    return 1 - 2 * (y * p).sum(axes) / (y.sum(axes) + p.sum(axes))


@pytest.mark.parametrize("flat", [False, True])
def test_dice_of_maps_with_whole_and_partial_gaps(flat):
    gaps = MASKS.copy()
    gaps[[2, 5]] = np.nan
    gaps[1, :2] = np.nan
    known = ~np.isnan(gaps)
    model = map_model(loss=keras.losses.Dice(axis=(1, 2, 3)), missing="nan")
    p = model.predict(MAPS, verbose=0)["a"]
    some = [0, 1, 3, 4]
    each = dice_of(np.where(known, MASKS, 0)[some], np.where(known, p, 0)[some])
    labels = gaps[..., 0] if flat else gaps
    assert evaluate(model, labels, MAPS)["a_loss"] == pytest.approx(each.mean(), rel=1e-5)
    weights = np.array([1, 2, 1, 0, 0.5, 1], "float32")
    logs = evaluate(model, labels, MAPS, sample_weight={"a": weights})
    assert logs["a_loss"] == pytest.approx((each * [1, 2, 0, 0.5]).sum() / 3, rel=1e-5)


def test_dice_of_the_batch_is_that_of_the_labelled_entries():
    gaps = np.where(RNG.random(MASKS.shape) < 0.6, MASKS, np.nan).astype("float32")
    gaps[3] = np.nan
    model = map_model(loss=keras.losses.Dice(), missing="nan")
    known, p = ~np.isnan(gaps), model.predict(MAPS, verbose=0)["a"]
    expected = 1 - 2 * (MASKS * p)[known].sum() / (MASKS[known].sum() + p[known].sum())
    assert evaluate(model, gaps, MAPS)["a_loss"] == pytest.approx(expected, rel=1e-5)


def test_one_number_for_the_batch_that_gaps_would_change_is_refused():
    def mean_error(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred))

    model = map_model(loss={"a": mean_error}, missing="nan")
    with pytest.raises(ValueError, match=r"loss of task 'a' should return a value for each example.*axis"):
        evaluate(model, MASKS, MAPS)
    with pytest.raises(ValueError, match="loss of task 'a' should return a value for each example"):
        evaluate(map_model(loss=keras.losses.Dice()), MASKS, MAPS, sample_weight={"a": np.ones(6)})


@pytest.mark.parametrize("option", ["sample_weight", "class_weight"])
def test_weights_within_what_one_value_is_of_are_refused(option):
    options = {"class_weight": {"a": {0: 1.0, 1: 2.0}}} if option == "class_weight" else {}
    model = map_model(loss=keras.losses.Dice(axis=(1, 2, 3)), **options)
    weights = {"a": np.ones((6, 4, 4, 1))} if option == "sample_weight" else None
    with pytest.raises(ValueError, match=r"task 'a' should.*Received: .*shape \(6, 4, 4, 1\)"):
        model.train_on_batch(MAPS, {"a": MASKS}, sample_weight=weights)


def test_weights_of_other_positions_are_refused():
    model = model_of(layers.Dense(3), loss="mse")
    with pytest.raises(ValueError, match=r"sample weights of task 'a' should be of .* Received: shape \(12, 2\)"):
        model.test_on_batch(X, {"a": np.zeros((N, 3))}, sample_weight={"a": np.ones((N, 2))})


def test_an_own_loss_that_neither_averages_nor_ignores_zeros_says_so():
    def root(y_true, y_pred):
        return ops.sqrt(ops.mean(ops.square(y_true - y_pred), axis=-1))

    model = model_of(layers.Dense(3), loss={"a": root}, missing="nan")
    y = X[:, :3].copy()
    p = model.predict(X, verbose=0)["a"]
    y[::2] = np.nan
    with pytest.warns(UserWarning, match="loss 'root' of task 'a' looks at several entries"):
        logs = evaluate(model, y)
    # Examples without any label are left out.
    expected = np.sqrt(((p - X[:, :3]) ** 2).mean(-1))[1::2].mean()
    assert logs["a_loss"] == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_not_of_the_predictions_entries():
    """An own loss may read columns of labels that predictions do not have; examples without any label are left out."""

    def interval(y_true, y_pred):
        return ops.square(y_true[:, 0] - y_pred[:, 0]) + ops.square(y_true[:, 1] - y_pred[:, 4])

    model = model_of(layers.Dense(5), loss={"a": interval}, missing="nan")
    p = model.predict(X, verbose=0)["a"]
    y = X[:, :2].copy()
    y[::3] = np.nan
    expected = ((X[:, 0] - p[:, 0]) ** 2 + (X[:, 1] - p[:, 4]) ** 2)[np.arange(N) % 3 != 0].mean()
    assert evaluate(model, y)["a_loss"] == pytest.approx(expected, rel=1e-5)


def test_ctc_with_sequences_that_have_no_label():
    x = RNG.normal(size=(4, 6, 3)).astype("float32")
    labels = np.array([[1, 2, 0], [-1, -1, -1], [2, 2, 1], [-1, -1, -1]], "int32")
    model = model_of(
        layers.Dense(4, activation="softmax"),
        keras.Input((6, 3)),
        [layers.Dense(5)],
        loss=keras.losses.CTC(),
        missing=-1,
    )
    p = model.predict(x, verbose=0)["a"]
    alone = keras.losses.CTC(reduction=None)(labels[[0, 2]], p[[0, 2]])
    assert evaluate(model, labels, x)["a_loss"] == pytest.approx(float(ops.mean(alone)), rel=1e-5)


@pytest.mark.parametrize("labels", [(N,), (N, 1)])
def test_outputs_without_an_axis(labels):
    y = np.where(np.arange(N) % 2, X[:, 0], np.nan).astype("float32")
    model = model_of([layers.Dense(1), layers.Reshape(())], loss="mse", missing="nan", metrics={"a": ["mae"]})
    error = (model.predict(X, verbose=0)["a"] - X[:, 0])[1::2]
    logs = evaluate(model, y.reshape(labels))
    assert logs["a_loss"] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert logs["a_mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_classes_that_keras_cannot_compare_along_an_axis_are_refused():
    loss = keras.losses.SparseCategoricalCrossentropy(axis=1)
    model = model_of(layers.Dense(4), keras.Input((3, 4)), [], loss=loss)
    with pytest.raises(ValueError, match=r"axis of classes of loss 'sparse_categorical_crossentropy' should be"):
        model.test_on_batch(np.zeros((2, 3, 4)), {"a": np.zeros((2, 4))})


BITS = (X[:, :1] > 0).astype("float32")
KNOWN = np.arange(N) % 2 == 1


def f_score(y_true, y_pred):
    y_pred = ops.round(y_pred)
    return 2 * ops.sum(y_true * y_pred) / (ops.sum(y_true) + ops.sum(y_pred))


def rate(y_true, y_pred):
    return ops.mean(ops.cast(ops.equal(y_true, ops.round(y_pred)), "float32"))


def absolute(y_true, y_pred):
    return ops.abs(y_true - y_pred)


def absolute_of_rows(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("given", ["weights", "missing"])
def test_metric_functions_of_the_batch_and_of_examples(given):
    options = {"missing": "nan"} if given == "missing" else {}
    head = layers.Dense(1, activation="sigmoid")
    model = model_of(head, loss="binary_crossentropy", metrics={"a": [f_score, absolute, absolute_of_rows]}, **options)
    p = model.predict(X, verbose=0)["a"]
    y, said = BITS[KNOWN], np.round(p)[KNOWN]
    expected = 2 * (y * said).sum() / (y.sum() + said.sum())
    if given == "missing":
        logs = evaluate(model, np.where(KNOWN[:, None], BITS, np.nan))
    else:
        logs = evaluate(model, BITS, sample_weight={"a": KNOWN * 1.0})
    assert logs["a_f_score"] == pytest.approx(expected, rel=1e-5)
    error = np.abs(y - p[KNOWN]).mean()
    assert logs["a_absolute"] == logs["a_absolute_of_rows"] == pytest.approx(error, rel=1e-5)
    flat = evaluate(model, BITS[:, 0])
    assert flat["a_absolute"] == pytest.approx(np.abs(BITS - p).mean(), rel=1e-5)


def test_a_metric_function_that_gaps_would_change_is_refused_and_plain_without_gaps():
    model = model_of(layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy", metrics={"a": [rate]})
    p = model.predict(X, verbose=0)["a"]
    assert evaluate(model, BITS)["a_rate"] == pytest.approx(np.mean(np.round(p) == BITS), rel=1e-6)
    with pytest.raises(ValueError, match=r"metric 'rate' of task 'a'.*`rate` should return a value for each example"):
        evaluate(model, BITS, sample_weight={"a": KNOWN * 1.0})


def test_metric_functions_of_vectors_with_single_entries_missing():
    known = RNG.random((N, 3)) < 0.6
    y = np.where(known, X[:, :3], np.nan).astype("float32")
    model = model_of(
        layers.Dense(3), loss={"a": squared}, missing="nan", metrics={"a": [absolute, absolute_of_rows, "mse"]}
    )
    error = (model.predict(X, verbose=0)["a"] - X[:, :3])[known]
    logs = evaluate(model, y)
    assert logs["a_loss"] == logs["a_mse"] == pytest.approx(np.mean(error**2), rel=1e-5)
    assert logs["a_absolute"] == logs["a_absolute_of_rows"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_overlaps_of_masked_maps_are_right_and_silent():
    gaps = np.where(RNG.random(MASKS.shape) < 0.7, MASKS, np.nan).astype("float32")
    known = ~np.isnan(gaps)
    overlap = keras.metrics.BinaryIoU(target_class_ids=[1], name="overlap")
    model = map_model(loss="binary_crossentropy", missing="nan", metrics={"a": [overlap]})
    p, y = model.predict(MAPS, verbose=0)["a"][known] > 0.5, MASKS[known] > 0
    logs = evaluate(model, gaps, MAPS)  # a warning would be an error
    assert logs["a_overlap"] == pytest.approx((p & y).sum() / (p | y).sum(), rel=1e-6)
