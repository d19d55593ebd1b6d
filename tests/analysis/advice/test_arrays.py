"""Examples in the containers that people have them in."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.analysis.advice._arrays import arrays_of

X = np.arange(14.0, dtype="float32").reshape(7, 2)
Y = {"a": np.arange(7), "b": np.arange(7.0)}
W = {"a": np.ones(7), "b": np.arange(7.0)}
INPUTS = keras.Input((2,))


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, count=3):
        super().__init__()
        self.parts, self.count = parts, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, place):
        return keras.tree.map_structure(lambda array: array[3 * place : 3 * place + 3], self.parts)


@pytest.mark.parametrize(
    "data",
    [
        (X, Y, W),
        [X, Y, W],
        tf.data.Dataset.from_tensor_slices((X, Y, W)).batch(3),
        Batches(X, Y, W),
    ],
    ids=["tuple", "list", "tf.data", "PyDataset"],
)
def test_all_come_to_the_same_arrays(data):
    x, y, weight = arrays_of(data, "train", ("a", "b"), INPUTS)
    np.testing.assert_array_equal(x, X)
    for task in "ab":
        np.testing.assert_array_equal(y[task], Y[task])
        np.testing.assert_array_equal(weight[task], W[task])


def test_inputs_of_several_parts():
    data = tf.data.Dataset.from_tensor_slices(({"one": X, "two": X + 1}, Y)).batch(4)
    x, _ = arrays_of(data, "train", ("a", "b"), {"one": keras.Input((2,)), "two": keras.Input((2,))})
    np.testing.assert_array_equal(x["two"], X + 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(3).repeat(), "have an end.* repeats for ever.*take"),
        (Batches(X, Y, count=None), "have an end.*`num_batches` is None"),
        (tf.data.Dataset.from_tensor_slices((X, Y)), r"batches, as `fit`.*`train.batch\(32\)`"),
        (tf.data.Dataset.from_tensor_slices((X, Y["a"])).batch(3), "`y` a dict"),
        (tf.data.Dataset.from_tensor_slices((X, {"a": Y["a"]})).batch(3), r"none of \['b'\]"),
        (tf.data.Dataset.from_tensor_slices((X, Y)).batch(3).take(0), "an empty data set"),
        ((X, Y, W, W), "a tuple of 4 entries"),
        (X, "a ndarray"),
        ((X, {**Y, "b": np.ones(6)}), "as many labels"),
    ],
)
def test_what_is_refused(data, words):
    with pytest.raises(ValueError, match=f"`train` should.*{words}"):
        arrays_of(data, "train", ("a", "b"), INPUTS)


def test_batches_of_other_shapes_are_refused():
    def longer():
        for length in (2, 3):
            yield np.ones((1, length), "float32"), {"a": np.ones(1), "b": np.ones(1)}

    spec = (tf.TensorSpec((1, None)), {task: tf.TensorSpec((1,), tf.float64) for task in "ab"})
    data = tf.data.Dataset.from_generator(longer, output_signature=spec)
    with pytest.raises(ValueError, match="`test` should have batches of one structure"):
        arrays_of(data, "test", ("a", "b"), keras.Input((None,)))
