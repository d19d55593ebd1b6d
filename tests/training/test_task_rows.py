"""Task gradients of dense kernels, kept as factors where batches are narrow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.training.backends import _dense_kernels
from keras_mtl.training.backends._dense_kernels import DenseKernelRows
from keras_mtl.training.task_gradients import Rows, TaskGradients

K, BATCH, WIDTH = 3, 4, 16


@pytest.fixture(autouse=True)
def small_layers_count(monkeypatch):
    monkeypatch.setattr(_dense_kernels, "_SMALLEST", 1)


def results(layer, shape, *, jit_compile=False, signature=None):
    """Form, Gramian, combination and matrix of the kernel's task gradients, and NumPy's."""
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    scale = np.random.default_rng(1).normal(size=(K, WIDTH)).astype("float32")
    weights = np.array([0.2, 0.5, 0.3], "float32")
    forms = []

    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            y = tf.cast(layer(x), tf.float32)
            losses = [tf.reduce_sum(tf.square(y) * row) for row in scale]
        return [tape.gradient(loss, layer.kernel.value) for loss in losses]

    def run(x):
        (rows,) = TaskGradients([[g] for g in gradients(x)], [layer.kernel.value]).of_targets
        forms.append((type(rows), getattr(rows, "narrow", None)))
        units = 2.0 * rows.magnitudes()
        return rows.gramian(units) * units[:, None] * units[None, :], rows.combine(weights), rows.matrix()

    layer(x)
    found = tf.function(run, jit_compile=jit_compile, input_signature=signature)(x)
    matrix = np.stack([g.numpy().ravel() for g in gradients(tf.constant(x))]).astype("float64")
    expected = matrix @ matrix.T, (weights @ matrix).reshape(layer.kernel.shape), matrix
    return forms[0], [f.numpy() for f in found], expected


def check(found, expected, rtol=1e-5):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_narrow_batch_keeps_the_factors_and_gives_the_same(jit_compile):
    form, found, expected = results(keras.layers.Dense(WIDTH, "relu"), (BATCH, WIDTH), jit_compile=jit_compile)
    assert form == (DenseKernelRows, True)
    check(found, expected)


@pytest.mark.parametrize("batch", [2, 4, 64])
def test_a_batch_of_unknown_size_chooses_in_the_graph(batch):
    signature = [tf.TensorSpec((None, WIDTH))]
    (form, narrow), found, expected = results(keras.layers.Dense(WIDTH), (batch, WIDTH), signature=signature)
    assert form is DenseKernelRows and tf.is_symbolic_tensor(narrow)
    check(found, expected)


def test_a_wide_batch_gets_the_matrix():
    form, found, expected = results(keras.layers.Dense(WIDTH), (64, WIDTH))
    assert form[0] is Rows
    check(found, expected)


def test_sequences_count_each_position():
    form, found, expected = results(keras.layers.Dense(WIDTH, use_bias=False), (2, 2, WIDTH))
    assert form == (DenseKernelRows, True)
    check(found, expected)


def test_half_precision_gets_the_matrix():
    form, found, expected = results(keras.layers.Dense(WIDTH, dtype="mixed_bfloat16"), (BATCH, WIDTH))
    assert form[0] is Rows
    check(found, expected, rtol=0.05)


def test_a_kernel_used_twice_gets_the_matrix():
    dense = keras.layers.Dense(WIDTH, "tanh")

    class Twice(keras.layers.Layer):
        kernel = property(lambda self: dense.kernel)

        def call(self, x):
            return dense(dense(x))

    form, found, expected = results(Twice(), (BATCH, WIDTH))
    assert form[0] is Rows
    check(found, expected)
