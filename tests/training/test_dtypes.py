"""Precisions: every weighting in float64, and task weights that half precision does not hold."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.training.backends import core
from keras_mtl.training.task_gradients import TaskGradients
from tests.rows import by_default

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 4))
Y = {"a": X[:, :1].copy(), "b": RNG.normal(size=(8, 1))}
START = [RNG.normal(size=shape) for shape in ((4, 3), (3,), (3, 1), (1,), (3, 1), (1,))]
DRAWN = ("random", "pcgrad", "gradvac", "graddrop")
CELLS = [(name, "parameters") for name in keras_mtl.weighting.names()] + [("nash", "features"), ("mgda", "last_shared")]
OPTIONS = {"dtp": {"metrics": {task: ["mae"] for task in "ab"}}}


@pytest.fixture
def floatx():
    """Sets the float that Keras takes by default, until the test ends."""

    def use(dtype):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)

    yield use
    use("float32")


def trained(name, gradients, dtype):
    keras.utils.set_random_seed(0)
    heads = {task: layers.Dense(1) for task in "ab"}
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3)], heads)
    model.set_weights(START)
    weighting = type(keras_mtl.weighting.get(name))(**({"seed": 0} if name in DRAWN else {}))
    model.compile(
        keras.optimizers.SGD(0.05),
        loss="mse",
        weighting=weighting,
        gradients=gradients,
        run_eagerly=True,
        **OPTIONS.get(name, {}),
    )
    logs = model.train_on_batch(X.astype(dtype), {t: y.astype(dtype) for t, y in Y.items()}, return_dict=True)
    return logs, [v.numpy() for v in model.trainable_variables[: len(START)]]


@pytest.mark.parametrize(("name", "gradients"), by_default([*CELLS[::4], *CELLS[-2:]], CELLS))
def test_float64_trains_as_float32_does(name, gradients, floatx):
    logs, values = trained(name, gradients, "float32")
    floatx("float64")
    double_logs, doubles = trained(name, gradients, "float64")
    assert all(v.dtype == "float64" for v in doubles)
    for value, double in zip(values, doubles, strict=True):
        np.testing.assert_allclose(double, value, rtol=2e-4, atol=1e-5)
    assert double_logs.keys() == logs.keys()
    np.testing.assert_allclose([*double_logs.values()], [*logs.values()], rtol=2e-4, atol=1e-5)


def test_gramians_in_float64_are_exact():
    rows = np.random.default_rng(1).normal(size=(3, 50)) * np.array([[1e-60], [1.0], [1e60]])
    variable = tf.Variable(np.zeros(50))
    with tf.GradientTape(persistent=True) as tape:
        losses = [tf.reduce_sum(tf.convert_to_tensor(variable) * row) for row in rows]
    rows_of = [tape.gradient(loss, variable) for loss in losses]
    gramian = TaskGradients([[row] for row in rows_of], [variable]).gramian().numpy()
    np.testing.assert_allclose(gramian, rows @ rows.T, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_meet_half_precision_in_float32(dtype):
    gradients = [tf.constant([1e-3, -2e-3], dtype), tf.constant([5e-4, 1e-3], dtype)]
    exact = np.stack([g.numpy().astype("float64") for g in gradients])
    weights = np.array([1e5, 7.001e4])
    (combined,) = TaskGradients([[g] for g in gradients], [gradients[0]]).combine(tf.constant(weights, "float32"))
    rtol = {"float16": 1e-3, "bfloat16": 8e-3}[dtype]
    assert combined.dtype == dtype
    np.testing.assert_allclose(combined.numpy().astype("float64"), weights @ exact, rtol=rtol)
    scaled = core.scale(gradients[0], 1e5)
    np.testing.assert_allclose(scaled.numpy().astype("float64"), 1e5 * exact[0], rtol=rtol)


def trunk_moves(policy, gradients):
    """How far Nash, whose weights are above 1e5 here, moves the trunk on labels in thousandths."""
    keras.utils.set_random_seed(0)
    heads = {
        task: layers.Dense(1, dtype="float32", kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3))
        for task in "ab"
    }
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(3, activation="tanh", dtype=policy)], heads)
    start = np.random.default_rng(2)
    model.set_weights([start.normal(size=v.shape) * (1e-3 if v.shape[-1:] == (1,) else 1) for v in model.weights])
    optimizer = keras.optimizers.SGD(0.05)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, loss="mse", weighting="nash", gradients=gradients, run_eagerly=True)
    before = [v.numpy() for v in model.shared_variables]
    labels = {task: 1e-3 * y for task, y in Y.items()}
    for _ in range(3):
        logs = model.train_on_batch(X.astype("float32"), labels, return_dict=True)
    assert logs["a_weight"] > 7e4
    return np.concatenate([(v.numpy() - b).ravel() for v, b in zip(model.shared_variables, before, strict=True)])


@pytest.mark.parametrize("gradients", ["features", "last_shared"])
def test_large_weights_in_mixed_float16(gradients):
    moves = trunk_moves("float32", gradients)
    half = trunk_moves("mixed_float16", gradients)
    np.testing.assert_allclose(half, moves, atol=0.05 * np.abs(moves).max())
