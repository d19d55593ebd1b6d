"""Max pooling behind a ReLU: in training the two change places, which spares the larger tensor the ReLU's passes."""

import keras
import tensorflow as tf

_LAYERS = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)


def call_layer(layer, inputs):
    """Calls a layer; `max(relu(x))` becomes `relu(max(x))`, which is the same number and has the same gradient.

    Args:
        layer: Keras layer.
        inputs: What it takes.

    Returns:
        What it returns.
    """
    if not _pools_a_relu(layer, inputs):
        return layer(inputs)
    return tf.nn.relu(layer(inputs.op.inputs[0]))


def _pools_a_relu(layer, inputs):
    return (
        type(layer) in _LAYERS
        and tf.is_symbolic_tensor(inputs)
        and inputs.op.type == "Relu"
        and layer.activity_regularizer is None
        and getattr(layer, "_remat_mode", None) is None
        and getattr(inputs, "_keras_mask", None) is None
    )
