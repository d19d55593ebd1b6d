"""Max pooling behind a ReLU comes before it in training, with the same numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.training.tensorflow import max_pooling

TASKS = ("a", "b")
POOLS = {
    1: (keras.layers.MaxPooling1D, (9, 3)),
    2: (keras.layers.MaxPooling2D, (9, 7, 3)),
    3: (keras.layers.MaxPooling3D, (5, 5, 5, 2)),
}


def passes(call, pool, x, jit_compile):
    """Outputs and gradients of two tasks, and the operations."""

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = call(pool, tf.nn.relu(x))
            losses = [tf.reduce_sum(y**2), tf.reduce_sum(tf.sin(y))]
        return [y, *(tape.gradient(loss, x) for loss in losses)]

    x = tf.constant(x)
    return [value.numpy() for value in run(x)], run.get_concrete_function(x).graph.get_operations()


@pytest.mark.parametrize("rank", POOLS)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_values_and_gradients_are_those_of_the_layer(rank, padding, jit_compile):
    kind, shape = POOLS[rank]
    rng = np.random.default_rng(rank)
    # Ties, zeros of both signs, and windows with nothing above 0.
    x = rng.integers(-3, 3, size=(4, *shape)).astype("float32") * rng.choice([-1.0, 1.0], size=shape).astype("float32")
    x[0] = -np.abs(x[0])
    pool = kind(2, padding=padding)
    found, ops = passes(max_pooling.call_layer, pool, x, jit_compile)
    expected, plain = passes(lambda layer, x: layer(x), pool, x, jit_compile)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    sizes, before = ([op.outputs[0].shape for op in of if op.type == "ReluGrad"] for of in (ops, plain))
    assert sizes == [found[0].shape] * 2
    assert before == [x.shape] * 2  # or this test tells nothing


def _with_mask(x):
    x._keras_mask = tf.ones((4, 9), bool)
    return x


OTHERS = {
    "tanh": (keras.layers.MaxPooling1D(), tf.nn.tanh),
    "average": (keras.layers.AveragePooling1D(2), tf.nn.relu),
    "regularizer": (keras.layers.MaxPooling1D(activity_regularizer="l2"), tf.nn.relu),
    "mask": (keras.layers.MaxPooling1D(), lambda x: _with_mask(tf.nn.relu(x))),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.filterwarnings("ignore:Layer 'max_pooling1d:UserWarning")  # says that it destroys a mask
def test_everything_else_is_called_as_ever(kind):
    layer, before = OTHERS[kind]
    last = []

    @tf.function
    def run(x):
        last.extend(call(layer, before(x)).op.type for call in (max_pooling.call_layer, lambda layer, x: layer(x)))

    run(tf.ones((4, 9, 3)))
    assert last[0] == last[1] != "Relu"


def test_eager_tensors_are_pooled_as_ever():
    x = tf.nn.relu(tf.random.normal((4, 9, 3)))
    pool = keras.layers.MaxPooling1D()
    np.testing.assert_array_equal(max_pooling.call_layer(pool, x), pool(x))


def trained(weighting, **options):
    """Logs and weights; the heads start with a pooling of the features, which are a ReLU's."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8, 8, 1)).astype("float32")
    y = {task: rng.normal(size=(16, 1)).astype("float32") for task in TASKS}
    layers = keras.layers
    stages = [[layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D()], layers.Conv2D(3, 2, activation="relu")]
    heads = {task: [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(1)] for task in TASKS}
    model = keras_mtl.hard_sharing(keras.Input((8, 8, 1)), stages, heads)
    model.compile(keras.optimizers.SGD(0.1), loss="mse", weighting=weighting, jit_compile=False, **options)
    logs = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return logs, model.get_weights()


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("equal", {}),
        ("mgda", {}),
        ("mgda", {"gradients": "features"}),
        ("mgda", {"gradients": "last_shared"}),
        ("equal", {"on_nonfinite": "skip_task"}),
        ("dbmtl", {}),
    ],
)
def test_training_is_the_same(weighting, options, monkeypatch):
    logs, weights = trained(weighting, **options)
    called = []
    monkeypatch.setattr(max_pooling, "_pools_a_relu", lambda *args: called.append(args))
    expected, others = trained(weighting, **options)
    assert called
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
