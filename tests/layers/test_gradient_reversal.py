"""The layer that turns gradients around."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.layers import GradientReversal

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


@pytest.mark.parametrize("strength", [0.0, 0.3, 2.0])
def test_values_pass_and_gradients_turn(strength):
    x = tf.Variable(1e3 * X)
    layer = GradientReversal(strength)
    with tf.GradientTape() as tape:
        y = layer(x)
        loss = tf.reduce_sum(y * y)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(tape.gradient(loss, x), -strength * 2 * x.numpy(), rtol=1e-6)


def test_strength_changes_between_steps_and_is_saved(tmp_path):
    inputs = keras.Input((3,))
    layer = GradientReversal(1.0, name="turn")
    model = keras.Model(inputs, layer(inputs))
    layer.strength.assign(0.25)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras").get_layer("turn")
    assert float(again.strength) == 0.25 and again.get_config()["strength"] == 0.25
    x = tf.Variable(X)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(again(x))
    np.testing.assert_array_equal(tape.gradient(loss, x), np.full_like(X, -0.25))


def test_a_head_behind_it_is_an_adversary():
    """The head moves as without the layer; the trunk moves the other way."""

    def step(*before):
        keras.utils.set_random_seed(0)
        model = keras_mtl.hard_sharing(
            keras.Input((3,)),
            [layers.Dense(4, activation="tanh", name="fc")],
            {"who": [*before, layers.Dense(2, activation="softmax", name="out")]},
        )
        start = {v.path: v.numpy() for v in model.trainable_variables}
        model.compile(keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy", run_eagerly=True)
        model.fit(X, {"who": np.arange(6) % 2}, batch_size=6, verbose=0)
        return {v.path: v.numpy() - start[v.path] for v in model.trainable_variables}

    plain, turned = step(), step(GradientReversal(0.5))
    for path, change in plain.items():
        sign = -0.5 if path.startswith("shared") else 1.0
        np.testing.assert_allclose(turned[path], sign * change, rtol=1e-4, atol=1e-7, err_msg=path)


def test_negative_strength_is_refused():
    with pytest.raises(ValueError, match=r"`strength` should be at least 0. Received: strength=-1"):
        GradientReversal(-1)
