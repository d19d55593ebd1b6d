"""Kernel gradients of all tasks come from one convolution where that is faster, and are the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.training.tensorflow import conv_rows

TASKS = 3


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """With a GPU nothing is stacked, and these tests would tell nothing."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])


def gradients(layer, x, stack, jit_compile=False):
    """Gradients of kernel and bias for each task, and the operations that compute kernel gradients in use."""

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape(persistent=True) as tape:
            y = layer(x)
            losses = [tf.reduce_sum(tf.sin((k + 1) * y)) for k in range(TASKS)]
        targets = [v.value for v in layer.trainable_variables]
        return stack([tape.gradient(loss, targets) for loss in losses])

    x = tf.constant(x)
    layer(x)
    found = run(x)
    ops = run.get_concrete_function(x).graph.get_operations()
    kept = [op for op in ops if op.type == "Conv2DBackpropFilter" and any(o.consumers() for o in op.outputs)]
    return [[g.numpy() for g in row] for row in found], kept


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same"},
        {"strides": 2},
        {"dilation_rate": 2},
        {"use_bias": False},
        {"strides": 2, "padding": "same", "kernel_size": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("jit_compile", [True, False])
def test_gradients_are_the_same(options, jit_compile):
    layer = keras.layers.Conv2D(20, **{"kernel_size": 5, **options})
    x = np.random.default_rng(0).normal(size=(3, 12, 11, 10)).astype("float32")
    found, kept = gradients(layer, x, conv_rows.stack_convolutions, jit_compile)
    expected, _ = gradients(layer, x, lambda rows: rows, jit_compile)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    assert [op.outputs[0].shape[-1] for op in kept] == [20 * TASKS]


@pytest.mark.parametrize(
    ("channels", "filters", "size"),
    [(10, 32, 5), (10, 24, 5), (1, 20, 5), (10, 20, 1)],
    ids=["full registers", "nearly full", "one channel", "one pixel"],
)
def test_the_rest_is_left_alone(channels, filters, size):
    layer = keras.layers.Conv2D(filters, size)
    x = np.random.default_rng(0).normal(size=(3, 8, 8, channels)).astype("float32")
    seen = []
    gradients(layer, x, lambda rows: seen.append((rows, conv_rows.stack_convolutions(rows))) or rows)
    given, back = seen[-1]
    assert all(a is b for row, same in zip(given, back, strict=True) for a, b in zip(row, same, strict=True))


def test_a_task_that_does_not_reach_the_layer():
    rows = [[None, None], [None, None]]

    @tf.function
    def run():
        assert conv_rows.stack_convolutions(rows) == rows

    run()


def test_on_a_gpu_the_rest_is_left_alone(monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])
    rows = [[None], [None]]

    @tf.function
    def run():
        assert conv_rows.stack_convolutions(rows) is rows

    run()


def trained(weighting, **options):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 12, 12, 1)).astype("float32")
    y = {task: rng.normal(size=(16, 1)).astype("float32") for task in "ab"}
    layers = keras.layers
    stages = [layers.Conv2D(10, 3, activation="relu"), [layers.Conv2D(20, 4, activation="relu"), layers.Flatten()]]
    model = keras_mtl.hard_sharing(keras.Input((12, 12, 1)), stages, {task: layers.Dense(1) for task in "ab"})
    model.compile(keras.optimizers.SGD(0.01), loss="mse", weighting=weighting, jit_compile=False, **options)
    logs = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return logs, model.get_weights()


@pytest.mark.parametrize(
    ("weighting", "options"),
    [("mgda", {}), ("mgda", {"gradients": "last_shared"}), ("dbmtl", {}), ("mgda", {"on_nonfinite": "skip_task"})],
)
def test_training_is_the_same(weighting, options, monkeypatch):
    logs, weights = trained(weighting, **options)
    monkeypatch.setattr(conv_rows, "_LEAST", 10**9)
    expected, others = trained(weighting, **options)
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-4, err_msg=name)
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
