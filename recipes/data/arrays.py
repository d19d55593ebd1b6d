"""What is done to examples of every kind: choosing rows, splitting, batching, scaling, shrinking."""

import keras
import numpy as np
import tensorflow as tf


def rows_of(data, rows):
    """Some rows of arrays, which may stand in tuples and dicts."""
    return keras.tree.map_structure(lambda array: array[rows], data)


def split_at(data, count):
    """The first so many rows of arrays, which may stand in tuples and dicts, and the other rows."""
    return rows_of(data, slice(count)), rows_of(data, slice(count, None))


def parts_of(order, sizes):
    """Dict from part to as many elements of an array as `sizes` says, one part after the other."""
    ends = np.cumsum(list(sizes.values()))
    return dict(zip(sizes, np.split(order[: ends[-1]], ends[:-1]), strict=True))


def batches(data, size, seed=None):
    """A `tf.data.Dataset` of batches of arrays; with a seed, shuffled anew in every epoch."""
    tensors = keras.tree.map_structure(tf.convert_to_tensor, data)
    count = len(keras.tree.flatten(tensors)[0])
    rows = tf.data.Dataset.range(count)
    rows = rows if seed is None else rows.shuffle(count, seed=seed)
    return rows.batch(size).map(lambda chosen: keras.tree.map_structure(lambda t: tf.gather(t, chosen), tensors))


def scaled(values, axis=None):
    """Values with mean 0 and standard deviation 1."""
    return (values - values.mean(axis)) / values.std(axis)


def smaller(pictures, times):
    """Pictures `(n, height, width, ...)` of fewer points: each is the mean of `times` x `times`."""
    count, height, width, *channels = pictures.shape
    return pictures.reshape(count, height // times, times, width // times, times, *channels).mean(axis=(2, 4))
