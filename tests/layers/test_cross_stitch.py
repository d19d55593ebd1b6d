"""Cross-stitch units against sums written out, for each shape of features."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.layers import CrossStitch


@pytest.mark.parametrize("per", ["channel", "layer"])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 4, 5)], ids=str)
def test_values_and_gradients(shape, per):
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(2, *shape)).astype("float32") for _ in range(3)]
    slope = rng.normal(size=(2, *shape)).astype("float32")
    unit = CrossStitch(index=1, per=per)
    unit.build([(None, *shape)] * 3)
    alpha = rng.normal(size=unit.alpha.shape).astype("float32")
    unit.alpha.assign(alpha)
    inputs = [tf.constant(x) for x in features]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = unit(inputs)
    of_alpha, *of_inputs = tape.gradient(outputs, [unit.alpha.value, *inputs], output_gradients=slope)
    np.testing.assert_allclose(outputs, sum(a * x for a, x in zip(alpha, features, strict=True)), rtol=1e-5, atol=1e-6)
    for j in range(3):
        products = (slope * features[j]).reshape(-1, shape[-1]).sum(axis=0)
        expected = products if per == "channel" else products.sum(keepdims=True)
        np.testing.assert_allclose(of_alpha[j], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(of_inputs[j], alpha[j] * slope, rtol=1e-6)


def test_sequences_of_any_length():
    inputs = [keras.Input((None, 5)), keras.Input((None, 5))]
    model = keras.Model(inputs, CrossStitch(index=0)(inputs))
    known = CrossStitch(index=0)
    for length in (1, 4):
        features = [np.random.default_rng(j).normal(size=(2, length, 5)).astype("float32") for j in range(2)]
        np.testing.assert_allclose(model(features), known(features), rtol=1e-6)
