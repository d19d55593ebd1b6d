"""What is the same training and what is another one, for everything that a training is made of."""

import collections
import datetime
import functools
import pathlib
import random
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.analysis._fingerprint import Fingerprint

RATE = 0.1


def digest(**parts):
    return Fingerprint().digest(**parts)


def unknown(**parts):
    reader = Fingerprint()
    reader.digest(**parts)
    return reader.unknown


class Scaled(layers.Layer):
    """A layer of the user's, whose config says what it was given."""

    def call(self, x):
        return 2.0 * x


class OtherScaled(Scaled):
    def call(self, x):
        return 3.0 * x


OtherScaled.__name__, OtherScaled.__qualname__ = "Scaled", "Scaled"  # the same class after an edit


def squares(y_true, y_pred):
    return keras.ops.mean((y_true - y_pred) ** 2, -1)


def held(what):
    """A loss that holds something, and does what it says."""

    def loss(y_true, y_pred):
        return what(y_true, y_pred) if callable(what) else what * squares(y_true, y_pred)

    return loss


def build(units=4, rate=0.1, loss="mse", weighting="equal", seed=0, layer=Scaled, momentum=0.0, **options):
    keras.utils.set_random_seed(seed)
    stages = [[layers.Dense(units, activation="tanh"), layers.Dropout(0.1), layer()]]
    heads = {"a": layers.Dense(1), "b": layers.Dense(1)}
    model = keras_mtl.hard_sharing(keras.Input((3,)), stages, heads, **options)
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    model.compile(optimizer, loss=loss, metrics={"a": ["mae"]}, weighting=weighting)
    return model


def test_a_model_that_is_built_again_is_the_same():
    """Though its layers, optimizer and weighting have other automatic names by then."""
    first, second = build(weighting="uncertainty"), build(weighting="uncertainty")
    assert first.name != second.name
    assert digest(model=first) == digest(model=second)


@pytest.mark.parametrize(
    "options",
    [
        {"units": 5},
        {"rate": 0.2},
        {"momentum": 0.9},
        {"loss": "mae"},
        {"loss": squares},
        {"loss": lambda y, p: keras.ops.mean((y - p) ** 2, -1)},
        {"weighting": "uncertainty"},
        {"weighting": keras_mtl.weighting.DWA(temperature=3.0)},
        {"seed": 1},
        {"layer": OtherScaled},
        {"shared_depth": 0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_model_that_differs_is_another(options):
    assert digest(model=build()) != digest(model=build(**options))


def test_weights_and_what_is_frozen_count():
    model = build()
    before = digest(model=model)
    kernel = model.trainable_variables[0]
    kernel.assign(kernel + 1e-6)
    changed = digest(model=model)
    model.layers[1].trainable = False
    assert len({before, changed, digest(model=model)}) == 3


def test_without_initial_weights_only_frozen_and_trained_ones_count():
    def of(model):
        return Fingerprint(initial_weights=False).digest(model=model)

    first, second = build(seed=0), build(seed=1)
    assert of(first) == of(second)
    for model in (first, second):
        model.layers[1].trainable = False
    assert of(first) != of(second)
    model = build()
    before = of(model)
    model.train_on_batch(np.ones((4, 3)), {"a": np.ones((4, 1)), "b": np.ones((4, 1))})
    assert of(model) != before


class Listed(layers.Layer):
    """A layer of the user's that saves what is no weight."""

    table, text = 0.0, ""

    def call(self, x):
        return x

    def save_own_variables(self, store):
        store["table"] = np.full(3, self.table)

    def save_assets(self, folder):
        (pathlib.Path(folder) / "text.txt").write_text(self.text)


def adapted(layer, data, dtype="float32"):
    layer.adapt(np.array(data))
    return layer, dtype


def listed(**state):
    layer = Listed()
    vars(layer).update(state)
    return layer, "float32"


ADAPTED = {
    "StringLookup": lambda other: adapted(layers.StringLookup(), ["a", "c" if other else "b"], "string"),
    "TextVectorization": lambda other: adapted(layers.TextVectorization(), ["a", "c" if other else "b"], "string"),
    "tf-idf": lambda other: adapted(
        layers.TextVectorization(output_mode="tf_idf"), ["a b", "a" if other else "a b", "a b"], "string"
    ),
    "IntegerLookup": lambda other: adapted(layers.IntegerLookup(), [4, 5 if other else 6], "int64"),
    "Discretization": lambda other: adapted(layers.Discretization(num_bins=2), [0.0, 1.0 + other, 2.0 + other]),
    "Normalization": lambda other: adapted(layers.Normalization(axis=None), [0.0, 1.0, 2.0 + other]),
    "own variables": lambda other: listed(table=float(other)),
    "own assets": lambda other: listed(text=str(other)),
}


@pytest.mark.parametrize("make", ADAPTED.values(), ids=ADAPTED)
def test_what_layers_have_adapted_to_counts(make):
    def of(other):
        layer, dtype = make(other)
        inputs = keras.Input((1,), dtype=dtype)
        model = keras_mtl.MultiTaskModel(inputs, {"a": layers.Flatten(name="a")(layer(inputs))})
        model.compile("sgd", loss="mse")
        return digest(model=model)

    assert of(0) == of(0) != of(1)


class Teaches(keras.losses.Loss):
    """A loss of the user's that holds what no config says."""

    def __init__(self, teacher, tables):
        super().__init__()
        self.teacher, self.tables = teacher, tables

    def call(self, y_true, y_pred):
        return (self.teacher(y_true) - y_pred) ** 2


def test_what_a_loss_holds_counts():
    teacher = keras.Sequential([keras.Input((1,)), layers.Dense(1)])

    def of(tables):
        return digest(model=build(loss=Teaches(teacher, tables)))

    before = of([1, 2])
    assert of([1, 2]) == before != of([1, 3])
    teacher.set_weights([w + 1 for w in teacher.get_weights()])
    assert of([1, 2]) != before


@pytest.mark.parametrize(
    "make",
    [
        lambda k: build(loss=keras.losses.Huber(k)),
        lambda k: build(loss=held(keras.losses.Huber(k))),
        lambda k: build(loss=held(tf.constant(k))),
        lambda k: build(loss=Teaches(None, tf.constant(k))),
        lambda k: build(loss=Teaches(None, keras.Variable(k))),
        lambda k: build(layer=lambda: Powered(k)),
        lambda k: [Own(collections.deque([k]))],
        lambda k: [Own(Slotted(k))],
        lambda k: [Own(range(int(k)))],
        lambda k: [Own(datetime.timedelta(k))],
        lambda k: [Own(re.compile(str(k)))],
        lambda k: [Own(np.random.default_rng(int(k)))],
        lambda k: [Own(random.Random(k))],
        lambda k: tf.data.Dataset.from_tensor_slices([*range(99), int(k)]).batch(2),
        lambda k: np.array([*map(str, range(9999)), str(k)] * 2, object),
        lambda k: np.array([*map(str, range(9999)), str(k)] * 2),
    ],
    ids=range(16),
)
def test_what_no_config_says_counts(make):
    """Options of losses, what functions and layers read, objects without attributes, what lies far behind."""
    assert digest(it=make(1.0)) == digest(it=make(1.0)) != digest(it=make(2.0))


class Powered(layers.Layer):
    """Its config lacks its option."""

    def __init__(self, power, **options):
        super().__init__(**options)
        self.power = power

    def call(self, x):
        return x**self.power

    def get_config(self):
        return super().get_config()


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def adder(step):
    def add(epoch):
        return epoch + step

    return add


def reads_rate(epoch):
    return RATE


def test_functions_are_what_they_do(monkeypatch):
    assert digest(f=adder(1)) == digest(f=adder(1)) != digest(f=adder(2))
    assert digest(f=lambda e: e) != digest(f=lambda e: e + 1)
    assert digest(f=functools.partial(squares, 1)) != digest(f=functools.partial(squares, 2))
    with_1, with_2 = (lambda e, step=1: e), (lambda e, step=2: e)
    assert digest(f=with_1) != digest(f=with_2)
    before = digest(f=reads_rate)
    monkeypatch.setitem(globals(), "RATE", 0.2)
    assert digest(f=reads_rate) != before


def test_what_cannot_be_read_is_named():
    assert unknown(f=reads_rate, g=adder(1), a=np.ones(3), m=build()) == {}
    assert unknown(callbacks=[keras.callbacks.LearningRateScheduler(lambda e: 0.1)]) == {
        "callbacks[0].schedule": "a lambda"
    }
    assert "a get_config" not in str(unknown(m=build(loss=lambda y, p: keras.ops.mean((y - p) ** 2, -1))))
    assert list(unknown(data=iter([1]))) == ["data"]


class Own(keras.callbacks.Callback):
    """Counts in a list around it, and in itself."""

    seen: list = []  # noqa: RUF012

    def __init__(self, rate=0.1):
        super().__init__()
        self.rate, self.epochs = rate, 0

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(epoch)
        self.epochs += 1


def test_callbacks_count_by_class_and_attributes():
    assert digest(c=[Own()]) == digest(c=[Own()]) != digest(c=[Own(0.2)])
    assert digest(c=[]) != digest(c=[Own()])
    stop = keras.callbacks.EarlyStopping
    assert digest(c=[stop("loss", patience=1)]) == digest(c=[stop("loss", patience=1)])
    assert digest(c=[stop("loss", patience=1)]) != digest(c=[stop("loss", patience=2)])
    assert digest(c=[stop("loss", mode="min")]) != digest(c=[stop("loss", mode="max")])


def test_used_callbacks_count_as_they_came():
    """What trainings leave in them is no difference; what their owner changes is one."""
    callbacks = [Own(), keras.callbacks.EarlyStopping("loss", restore_best_weights=True)]
    reader = Fingerprint()
    before = reader.digest(c=callbacks)
    data = np.ones((8, 3)), {"a": np.ones((8, 1)), "b": np.ones((8, 1))}
    model = build(layer=layers.ReLU)
    model.compile("sgd", loss="mse", run_eagerly=True)
    model.fit(*data, epochs=2, callbacks=callbacks, verbose=0)
    reader.remember()
    assert callbacks[0].epochs and digest(c=callbacks) == before
    callbacks[0].rate = 0.2
    assert digest(c=callbacks) != before


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool", "str"])
def test_arrays_count_by_content_dtype_and_shape(dtype):
    array = np.arange(24).astype(dtype).reshape(4, 6)
    other = array.copy()
    other[2, 3] = other[0, 0]
    assert digest(a=array) == digest(a=array.copy()) == digest(a=np.asfortranarray(array))
    assert len({digest(a=a) for a in (array, other, array.reshape(6, 4), array.astype("object"))}) == 4
    assert digest(a=np.full(3, np.nan)) == digest(a=np.full(3, np.nan)) != digest(a=np.zeros(3))


def test_large_arrays_are_not_read_as_a_whole_but_added_up():
    array = np.zeros((6_000_000,), "float32")
    other = array.copy()
    other[3_333_333] = 1e-30
    assert digest(a=array) != digest(a=other)


def test_data_sets_count_by_what_they_yield():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    of = tf.data.Dataset.from_tensor_slices
    other = x.copy()
    other[30] += 1  # in the last batch
    assert digest(d=of(x).batch(8)) == digest(d=of(x).batch(8)) != digest(d=of(x).batch(10))
    assert digest(d=of(x).batch(8)) != digest(d=of(x + 1).batch(8))
    # Shuffled anew each time: the examples are added up, in whatever order they come.
    shuffled = [of(a).shuffle(40).batch(8) for a in (x, x, other)]
    assert digest(d=shuffled[0]) == digest(d=shuffled[1]) == digest(d=shuffled[0]) != digest(d=shuffled[2])
    draw = np.random.default_rng(1)
    noisy = (
        of(x).map(lambda row: tf.numpy_function(lambda r: r + np.float32(draw.normal()), [row], tf.float32)).batch(8)
    )
    assert digest(d=noisy) == digest(d=noisy) and list(unknown(d=noisy)) == ["d"]


def test_what_can_be_read_only_once_is_left_alone():
    left = iter(range(5))
    numbers = tf.data.Dataset.from_generator(lambda: left, output_signature=tf.TensorSpec((), tf.int32))
    generator = (n for n in range(5))
    assert list(unknown(a=numbers, b=generator)) == ["a", "b"]
    assert list(left) == list(generator) == list(range(5))


def test_mixtures_keep_their_position():
    def mixture(seed=0):
        x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
        sets = {task: tf.data.Dataset.from_tensor_slices((x, x[:, :1] + i)) for i, task in enumerate("ab")}
        return keras_mtl.data.mix(sets, "uniform", batch_size=4, stop=20, seed=seed)

    first, second = mixture(), mixture()
    assert digest(d=first) == digest(d=second)
    for mine, other in zip(first, mixture(), strict=True):
        np.testing.assert_array_equal(mine[0], other[0])


class Batches(keras.utils.PyDataset):
    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8]


def test_py_data_sets_count_by_their_batches():
    x = np.arange(32.0)
    assert digest(d=Batches(x)) == digest(d=Batches(x.copy())) != digest(d=Batches(x + 1))


@pytest.mark.slow
def test_digests_are_the_same_in_every_process():
    """Python draws the order of sets and of hashes anew."""
    code = f"""
import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})
from tests.analysis.test_fingerprint import *
found = digest(m=build(loss=lambda y, p: (y - p) ** 2 if y.dtype in {{"float32", "float16", "int8"}} else p),
    c=[Own()], x=np.arange(9.0), s={{"a", "b", "c"}}, f=adder(1), d=tf.data.Dataset.range(9).batch(2))
print("digest", found)
"""
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert found[0].startswith("digest") and len(set(found)) == 1
