"""Batch normalization that a batch without examples leaves as it is."""

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.layers import SafeBatchNormalization


def trained(layer, batches):
    layer.build((None, 3))
    outputs = [layer(batch, training=True) for batch in batches]
    return [v.numpy() for v in layer.variables], outputs


def test_is_keras_layer_where_there_are_examples():
    batches = np.random.default_rng(0).normal(size=(4, 8, 3)).astype("float32")
    ours, keras_own = (trained(make(), batches) for make in (SafeBatchNormalization, keras.layers.BatchNormalization))
    for one, other in zip(ours[0] + ours[1], keras_own[0] + keras_own[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_empty_batches_change_nothing():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    layer = SafeBatchNormalization()
    before, _ = trained(layer, [x])
    for rows in (0, 1):
        for _ in range(50):
            assert layer(x[:rows], training=True).shape == (rows, 3)
    for variable, old in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_gradients_of_an_empty_batch_are_zero():
    layer = SafeBatchNormalization()
    layer.build((None, 3))
    x = tf.zeros((0, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    for gradient in tape.gradient(loss, [x, *layer.trainable_variables]):
        assert np.all(np.array(gradient) == 0)


def test_in_a_graph_whose_batches_come_and_go():
    layer = SafeBatchNormalization()
    layer.build((None, 3))
    call = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, 3))])
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    for batch in (x[:0], x, x[:0]):
        call(batch)
    mean, _ = trained(SafeBatchNormalization(), [x])
    for variable, value in zip(layer.variables, mean, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-6)


def test_config_round_trip():
    layer = SafeBatchNormalization(momentum=0.5, epsilon=0.1, name="norm")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is SafeBatchNormalization and again.get_config() == layer.get_config()
