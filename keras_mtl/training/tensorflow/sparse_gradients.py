"""Arithmetic of gradients that may be sparse, as those of embeddings are, and stay so where they can."""

import tensorflow as tf


def scale(gradient, factor):
    """A gradient times a scalar.

    Args:
        gradient: Tensor or `tf.IndexedSlices`.
        factor: Number or scalar tensor.

    Returns:
        The same kind.
    """
    if isinstance(gradient, tf.IndexedSlices):
        return _with_values(gradient, scale(gradient.values, factor))
    dtype = gradient.dtype
    if dtype in (tf.float16, tf.bfloat16):  # which do not hold every factor
        return tf.cast(tf.cast(gradient, tf.float32) * tf.cast(factor, tf.float32), dtype)
    return gradient * tf.cast(factor, dtype)


def add(first, second):
    """Sum of two gradients.

    Args:
        first: Tensor, `tf.IndexedSlices` or `None`: there is none so far.
        second: Tensor or `tf.IndexedSlices`.

    Returns:
        `tf.IndexedSlices` where both are, else a tensor.
    """
    if first is None:
        return second
    if isinstance(first, tf.IndexedSlices) and isinstance(second, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([first.values, second.values], axis=0),
            tf.concat([first.indices, second.indices], axis=0),
            first.dense_shape,
        )
    return tf.convert_to_tensor(first) + tf.convert_to_tensor(second)


def choose(condition, gradient, otherwise=0.0):
    """A gradient, or a number in all of its places where a condition does not hold.

    Args:
        condition: Boolean scalar.
        gradient: Tensor or `tf.IndexedSlices`.
        otherwise: Float. Defaults to `0.0`.

    Returns:
        The same kind.
    """
    if isinstance(gradient, tf.IndexedSlices):
        return _with_values(gradient, choose(condition, gradient.values, otherwise))
    return tf.where(condition, gradient, tf.cast(otherwise, gradient.dtype))


def _with_values(gradient, values):
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
