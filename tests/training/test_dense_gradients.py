"""Large dense layers turn their kernel over once for the backward passes of all tasks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.training.tensorflow import dense_gradients

WIDTH = 8


@pytest.fixture(autouse=True)
def small_layers_count(monkeypatch):
    monkeypatch.setattr(dense_gradients, "_LARGE", 1)


def passes(call, layer, x, jit_compile=False):
    """Outputs and two tasks' gradients of inputs, kernel and bias; and the function."""

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = call(layer, x)
            losses = [tf.reduce_sum(y**2), tf.reduce_sum(tf.sin(y))]
        targets = [x, *(v.value for v in layer.trainable_variables)]
        return [y, *(g for loss in losses for g in tape.gradient(loss, targets))]

    x = tf.constant(x)
    layer(x)
    return [value.numpy() for value in run(x)], run.get_concrete_function(x).graph


def products(graph):
    return [op for op in graph.get_operations() if op.type == "MatMul"]


@pytest.mark.parametrize("activation", [None, "relu", "softmax"])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_values_and_gradients_are_those_of_the_layer(activation, use_bias, jit_compile):
    layer = keras.layers.Dense(WIDTH, activation, use_bias)
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    found, graph = passes(dense_gradients.call_layer, layer, x, jit_compile)
    expected, plain = passes(lambda layer, x: layer(x), layer, x)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    turned = [op.get_attr("transpose_b") for op in products(graph)]
    assert not any(turned)
    assert sum(op.get_attr("transpose_b") for op in products(plain)) == 2  # or this test tells nothing


def _with_mask():
    x = tf.ones((5, 6))
    x._keras_mask = tf.ones((5,), bool)
    return keras.layers.Dense(WIDTH), x


def _quantized():
    layer = keras.layers.Dense(WIDTH)
    layer.build((None, 6))
    layer.quantize("int8")
    return layer, tf.ones((5, 6))


class Scaled(keras.layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


OTHERS = {
    "mask": _with_mask,
    "quantized": _quantized,
    "subclass": lambda: (Scaled(WIDTH), tf.ones((5, 6))),
    "sequence": lambda: (keras.layers.Dense(WIDTH), tf.ones((5, 3, 6))),
    "half precision": lambda: (keras.layers.Dense(WIDTH, dtype="mixed_bfloat16"), tf.ones((5, 6))),
    "activity regularizer": lambda: (keras.layers.Dense(WIDTH, activity_regularizer="l2"), tf.ones((5, 6))),
    "array": lambda: (keras.layers.Dense(WIDTH), np.ones((5, 6), "float32")),
    "not built": lambda: (keras.layers.Dense(WIDTH), tf.ones((5, 6))),
    "another layer": lambda: (keras.layers.ReLU(), tf.ones((5, 6))),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_everything_else_is_called_as_ever(kind, monkeypatch):
    layer, x = OTHERS[kind]()
    if kind != "not built":
        layer(x)
    monkeypatch.setattr(dense_gradients, "_product", None)
    dense_gradients.call_layer(layer, x)


def trained(weighting, large, monkeypatch, strategy=None, **options):
    monkeypatch.setattr(dense_gradients, "_LARGE", large)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 6)).astype("float32")
    y = {task: rng.normal(size=(16, 1)).astype("float32") for task in "ab"}
    stages = [[keras.layers.Dense(WIDTH, "relu"), keras.layers.Dropout(0.2, seed=1)], keras.layers.Dense(WIDTH, "tanh")]
    with strategy.scope() if strategy else tf.name_scope(""):
        model = keras_mtl.hard_sharing(keras.Input((6,)), stages, {task: keras.layers.Dense(1) for task in "ab"})
        model.compile(keras.optimizers.SGD(0.1), loss="mse", weighting=weighting, **options)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model.get_weights()


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("mgda", {}),
        ("mgda", {"gramian_fraction": 0.5}),
        ("mgda", {"run_eagerly": True}),
        ("mgda", {"jit_compile": True}),
        ("graddrop", {}),
    ],
)
def test_training_is_the_same(weighting, options, monkeypatch):
    found = trained(weighting, 1, monkeypatch, **options)
    for one, other in zip(found, trained(weighting, 10**9, monkeypatch, **options), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_training_on_replicas_is_the_same(mirrored_strategy, monkeypatch):
    found = trained("mgda", 1, monkeypatch, mirrored_strategy)
    for one, other in zip(found, trained("mgda", 10**9, monkeypatch, mirrored_strategy), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
