"""Dense layers whose gradients several tasks take: the kernel is transposed once, not in each backward pass."""

import keras
import tensorflow as tf

from keras_mtl.training.tensorflow import max_pooling

_LARGE = 2**17  # kernel entries: below this there is nothing to gain that could be measured


def call_layer(layer, inputs):
    """Calls a layer, and prepares its backward passes where it is a large dense layer.

    The values are the layer's. Its gradients are, too, up to rounding.

    Args:
        layer: Keras layer.
        inputs: What it takes.

    Returns:
        What it returns.
    """
    if not _is_large_dense(layer, inputs):
        return max_pooling.call_layer(layer, inputs)
    outputs = _product(inputs, tf.convert_to_tensor(layer.kernel))
    if layer.bias is not None:
        outputs = tf.nn.bias_add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _is_large_dense(layer, inputs):
    """Whether a layer does no more than `activation(inputs @ kernel + bias)`, in float32, with a large kernel."""
    return (
        type(layer) is keras.layers.Dense
        and layer.built
        and layer.compute_dtype == layer.variable_dtype == "float32"
        and layer.quantization_mode is None
        and layer.activity_regularizer is None
        and getattr(layer, "_remat_mode", None) is None
        and layer.kernel.shape[0] * layer.kernel.shape[1] >= _LARGE
        and isinstance(inputs, tf.Tensor)
        and len(inputs.shape) == 2
        and inputs.dtype == tf.float32
        and getattr(inputs, "_keras_mask", None) is None
    )


@tf.custom_gradient
def _product(inputs, kernel):
    """`inputs @ kernel`. Products with a transposed kernel rearrange it, on a CPU, every time."""
    # Not `transpose`, which the graph's optimizer would fold back into each of the products.
    transposed = tf.einsum("ij->ji", kernel)

    def gradient(upstream):
        return tf.matmul(upstream, transposed), tf.matmul(inputs, upstream, transpose_a=True)

    return tf.matmul(inputs, kernel), gradient
