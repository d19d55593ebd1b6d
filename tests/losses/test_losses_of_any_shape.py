"""Losses over drawn shapes, reductions, gaps and weights against float64 NumPy on the labelled entries.

The model's predictions are `x ** s` with one trainable number s = 1, so that both a loss and its gradient can be worked
out by hand: the step of `SGD(1)` is the derivative in s, taken here as a central difference in float64.
"""

import itertools
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import keras_mtl
from tests.rows import by_default

N = 4
SHAPES = [(), (1,), (3,), (2,), (4, 1), (4, 3), (4, 4), (3, 4, 1), (3, 4, 2), (4, 4, 4)]
EPSILON = 1e-7


@keras.saving.register_keras_serializable("tests")
class Power(keras.layers.Layer):
    def build(self, input_shape):
        self.s = self.add_weight(shape=(), initializer="ones", name="s")

    def call(self, inputs):
        return ops.power(inputs, self.s)


MODELS = {}


def model_of(shape):
    if shape not in MODELS:
        inputs = keras.Input((*shape,))
        MODELS[shape] = keras_mtl.MultiTaskModel(inputs, {"a": Power()(inputs)})
    return MODELS[shape]


class Squared(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


def squared_mean(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


def squared_entries(y_true, y_pred):
    return ops.square(y_true - y_pred)


def squared_examples(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=tuple(range(1, len(y_pred.shape))))


def squared_sum(y_true, y_pred):
    return ops.sum(ops.square(y_true - y_pred), axis=-1)


def np_squared(y, p):
    return (y - p) ** 2


def np_absolute(y, p):
    return np.abs(y - p)


def np_entropy(y, p):
    return -(y * np.log(p + EPSILON) + (1 - y) * np.log(1 - p + EPSILON))


def np_categorical(axis):
    return lambda y, p: -np.sum(y * np.log(p / p.sum(axis, keepdims=True)), axis=axis)


def np_cosine(y, p):
    unit = [a / np.sqrt(np.maximum((a**2).sum(-1, keepdims=True), 1e-12)) for a in (y, p)]
    return -np.sum(unit[0] * unit[1], axis=-1)


def of_entries(loss, values, axes):
    """`axes(rank)`: those that Keras takes the mean over."""
    return {"loss": loss, "values": values, "axes": axes}


def last(rank):
    return (rank - 1,)


def none(rank):
    return ()


def all_but_first(rank):
    return tuple(range(1, rank))


LOSSES = {
    "mse": of_entries(keras.losses.MeanSquaredError, np_squared, last),
    "mae": of_entries(keras.losses.MeanAbsoluteError, np_absolute, last),
    "entropy": of_entries(keras.losses.BinaryCrossentropy, np_entropy, last),
    "entropy on axis 1": of_entries(
        lambda **options: keras.losses.BinaryCrossentropy(axis=1, **options), np_entropy, lambda rank: (1,)
    ),
    "own subclass": of_entries(Squared, np_squared, last),
    "own mean": of_entries(lambda: squared_mean, np_squared, last),
    "own entries": of_entries(lambda: squared_entries, np_squared, none),
    "own examples": of_entries(lambda: squared_examples, np_squared, all_but_first),
    "own sum": {"loss": lambda: squared_sum, "values": lambda y, p: ((y - p) ** 2).sum(-1), "together": 1},
    "dice": {"loss": keras.losses.Dice, "together": "all"},
    "tversky": {"loss": keras.losses.Tversky, "together": "all"},
    "categorical": {"loss": keras.losses.CategoricalCrossentropy, "vectors": -1, "values": np_categorical(-1)},
    "categorical on axis 1": {
        "loss": lambda **options: keras.losses.CategoricalCrossentropy(axis=1, **options),
        "vectors": 1,
        "values": np_categorical(1),
    },
    "cosine": {"loss": keras.losses.CosineSimilarity, "vectors": -1, "values": np_cosine},
    "classes": {"loss": keras.losses.SparseCategoricalCrossentropy, "classes": -1},
}
REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight")


def draw(seed):
    """A case: what the model is compiled with, given, and should say."""
    rng = np.random.default_rng(seed)
    name = list(LOSSES)[rng.integers(len(LOSSES))]
    kind = LOSSES[name]
    vectors = kind.get("vectors", kind.get("classes"))
    shapes = [s for s in SHAPES if (vectors is None or (s and s[-1] != 1 and len(s) >= abs(vectors)))]
    if "axis 1" in name:
        shapes = [s for s in shapes if len(s) > 1]
    if name in ("dice", "tversky"):
        shapes = [s for s in shapes if len(s) > 1]
    shape = shapes[rng.integers(len(shapes))]
    x = rng.uniform(0.1, 0.9, (N, *shape)).astype("float32")
    own_function = name.startswith("own") and name != "own subclass"
    reduction = REDUCTIONS[rng.integers(3)] if not own_function else REDUCTIONS[0]
    options = {} if own_function else {"reduction": reduction}
    if name in ("dice", "tversky"):
        options["axis"] = tuple(range(1, len(shape) + 1))

    axis = None if vectors is None else vectors % (len(shape) + 1)
    if vectors is not None:
        count = x.shape[axis]
        positions = x.shape[:axis] + x.shape[axis + 1 :]
        ids = rng.integers(0, count, positions)
        y = ids if "classes" in kind else np.moveaxis(np.eye(count)[ids], -1, axis)
    else:
        positions = x.shape
        y = rng.integers(0, 2, x.shape)
    y = y.astype("float32")

    # A last axis of 1 may be left out of labels, or stand behind them.
    flat = bool(vectors is None and shape and shape[-1] == 1 and len(shape) > 0 and rng.random() < 0.5)
    column = bool("classes" in kind and rng.random() < 0.5) or (shape == () and rng.random() < 0.5)

    known = np.ones(positions, bool)
    missing = [None, "nan", -7][rng.integers(3)]
    if missing is not None:
        known = rng.random(positions) < 0.6
        if rng.random() < 0.3:
            known &= (rng.random(N) < 0.7).reshape(-1, *[1] * (len(positions) - 1))
        if rng.random() < 0.2:
            known[:] = True
    given = y.copy()
    if missing is not None:
        at = known if axis is None or "classes" in kind else np.expand_dims(known, axis)
        given = np.where(at, given, np.nan if missing == "nan" else -7).astype("float32")

    weights = None
    how = rng.integers(4)
    if how:
        # Of examples, of positions, or booleans of these.
        rank = rng.integers(1, len(positions) + 1)
        weights = rng.choice([0.0, 0.5, 2.0], positions[:rank])
        if "together" in kind:
            weights = weights if rank == 1 else (weights.reshape(N, -1)[:, 0])
            rank = 1
        if how == 3:
            weights = weights > 0
    class_weight = None
    if "together" not in kind and name != "cosine" and rng.random() < 0.3:
        class_weight = {0: 0.5, 1: 3.0}

    def spread(array):
        return np.broadcast_to(np.reshape(array, array.shape + (1,) * (len(positions) - array.ndim)), positions)

    weight = np.ones(positions)
    if weights is not None:
        known = known & spread(weights != 0)
        weight = weight * spread(weights.astype(float))
    by_class = np.ones(positions)
    if class_weight is not None:
        labels = y if vectors is None or "classes" in kind else y.argmax(axis)
        by_class = np.vectorize(lambda c: class_weight.get(int(c), 1.0))(labels)
    aligned_rank = max(len(shape) + 1 - (flat and len(shape) > 1), 2)

    def expected(s, training):
        p = x.astype("float64") ** s
        w, mask = weight * (by_class if training else 1.0), known
        fold = 1.0
        weighted = weights is not None or (training and class_weight is not None)
        if "together" in kind and kind["together"] == "all":
            yes, said = np.where(mask, y, 0.0), np.where(mask, p, 0.0)
            axes = tuple(range(1, p.ndim))
            values = 1 - 2 * (yes * said).sum(axes) / (yes.sum(axes) + said.sum(axes) + EPSILON)
            mask, w = mask.any(axes), w.reshape(N, -1)[:, 0]
        elif "together" in kind:
            yes, said = np.where(mask, y, 0.0), np.where(mask, p, 0.0)
            if flat and len(shape) > 1:
                yes, said, mask, w = yes[..., 0], said[..., 0], mask[..., 0], w[..., 0]
            if shape == ():
                yes, said, mask, w = yes[:, None], said[:, None], mask[:, None], w[:, None]
            values, mask, w = kind["values"](yes, said), mask.any(-1), w[..., 0]
        elif "classes" in kind:
            q = np.moveaxis(p, axis, -1)
            values = -np.log(np.take_along_axis(q, y.astype(int)[..., None], -1)[..., 0] / q.sum(-1))
        else:
            values = kind["values"](y.astype("float64"), p)
            if "axes" in kind:
                sizes = (p[..., None] if shape == () else p[..., 0] if flat and len(shape) > 1 else p).shape
                fold = np.prod([sizes[a] for a in kind["axes"](aligned_rank)], dtype=float)
        total = (values * w)[mask].sum()
        if reduction == "sum":
            return total / fold
        if reduction == "mean_with_sample_weight" and weighted:
            return total / (w[mask].sum() or 1.0)
        return total / (mask.sum() or 1)

    labels = given[..., 0] if flat else given
    if column:
        labels = np.expand_dims(labels, axis if "classes" in kind else -1)
    compile_with = dict(loss={"a": kind["loss"](**options)}, missing=missing)
    if class_weight:
        compile_with["class_weight"] = {"a": class_weight}
    complete = weights is None and class_weight is None and bool(known.all()) and shape != ()
    text = f"{name} {reduction} {shape} labels {labels.shape} missing {missing} weights {np.shape(weights)} {how}"
    return {
        "shape": shape,
        "x": x,
        "labels": labels,
        "weights": weights,
        "compile": compile_with,
        "expected": expected,
        "text": text,
        "traits": {
            "loss": name,
            "reduction": reduction,
            "shape": shape,
            "missing": missing,
            "weights": int(how),
            "rank": np.ndim(weights),
            "flat": flat,
            "column": column,
            "class weight": class_weight is not None,
        },
        "any": bool(known.any()),
        "plain": complete and not own_function and name not in ("dice", "tversky"),
        "y": y[..., 0] if flat else y,
        "options": options,
        "kind": kind,
    }


def run(case, **options):
    """What the model says in evaluation and training, and the derivative that it has taken."""
    model = model_of(case["shape"])
    model.trainable_variables[0].assign(1.0)
    model.compile(keras.optimizers.SGD(1.0), **case["compile"], **options)
    sample_weight = None if case["weights"] is None else {"a": case["weights"]}
    given = (case["x"], {"a": case["labels"]}, sample_weight)
    evaluated = model.test_on_batch(*given, return_dict=True)["a_loss"]
    trained = model.train_on_batch(*given, return_dict=True)["a_loss"]
    return evaluated, trained, 1.0 - float(model.trainable_variables[0])


def few(seeds):
    """Seeds of a few cases in which any two traits meet that meet in all."""
    pairs = {}
    for seed in seeds:
        case = draw(seed)
        if case["any"]:
            pairs[seed] = set(itertools.combinations(case["traits"].items(), 2))
    left, chosen = set.union(*pairs.values()), []
    while left:
        chosen.append(max(pairs, key=lambda seed: len(pairs[seed] & left)))
        left -= pairs[chosen[-1]]
    return chosen


@pytest.mark.oracle
@pytest.mark.parametrize("block", by_default(["few"], ["few", *range(10)]))
def test_they_are_what_numpy_says(block):
    for seed in few(range(500)) if block == "few" else range(50 * block, 50 * block + 50):
        case = draw(seed)
        if not case["any"]:
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The loss 'squared_sum'|The loss 'own")
            evaluated, trained, slope = run(case, run_eagerly=True)
        expected = case["expected"]
        step = 1e-5
        by_hand = (expected(1 + step, True) - expected(1 - step, True)) / (2 * step)
        said = f"seed {seed}: {case['text']}"
        assert evaluated == pytest.approx(expected(1.0, False), rel=1e-4, abs=1e-6), said
        assert trained == pytest.approx(expected(1.0, True), rel=1e-4, abs=1e-6), said
        assert slope == pytest.approx(by_hand, rel=2e-3, abs=2e-4), said
        if case["plain"]:
            plain = case["kind"]["loss"](**case["options"])(case["y"], case["x"])
            assert evaluated == pytest.approx(float(plain), rel=1e-5), said


@pytest.mark.parametrize("seed", [3, 11, 19, 42])
def test_graphs_say_the_same(seed):
    case = draw(seed)
    assert run(case) == pytest.approx(run(case, run_eagerly=True), rel=1e-4, abs=1e-6)
