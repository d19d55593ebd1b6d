"""Parts of a batch, of dense, ragged and sparse tensors."""

import keras
import tensorflow as tf


def number_of_rows(x):
    """Number of examples in a batch, as an integer tensor."""
    return tf.shape(keras.tree.flatten(x)[0])[0]


def first_rows(data, size):
    """The first examples of a batch.

    Args:
        data: Structure of tensors or `None`.
        size: Integer scalar.

    Returns:
        The same structure.
    """

    def take(t):
        if isinstance(t, tf.SparseTensor):
            shape = tf.concat([[tf.cast(size, tf.int64)], t.dense_shape[1:]], axis=0)
            return _like(t, tf.sparse.slice(t, tf.zeros_like(t.dense_shape), shape))
        return None if t is None else t[:size]

    return keras.tree.map_structure(take, data)


def rows_apart(data, first, distance):
    """Examples of a batch at equal distances.

    Args:
        data: Structure of tensors or `None`.
        first: Integer scalar. The first of them.
        distance: Integer. From one to the next.

    Returns:
        The same structure.
    """

    def take(t):
        if isinstance(t, tf.SparseTensor):
            start = tf.cast(first, tf.int64)
            kept = tf.sparse.retain(t, (t.indices[:, 0] - start) % distance == 0)
            rows = (kept.indices[:, 0] - start) // distance
            indices = tf.concat([rows[:, None], kept.indices[:, 1:]], axis=1)
            count = (t.dense_shape[0] - start + distance - 1) // distance
            shape = tf.concat([count[None], t.dense_shape[1:]], axis=0)
            # Rows before the first are of no multiple of the distance: `first` is smaller than it.
            return _like(t, tf.SparseTensor(indices, kept.values, shape))
        return None if t is None else t[first::distance]

    return keras.tree.map_structure(take, data)


def _like(whole, part):
    """A part that knows its static shape but for the number of rows."""
    part.set_shape([None, *whole.shape[1:]])
    return part
