"""A penalty of one's own: `measure` is all that it needs."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_mtl
from keras_mtl.penalties import Penalty

X = np.arange(1.0, 7.0, dtype="float32")[:, None]
COLUMN = np.array([0, 1, 0, 1, 0, 1], "float32")


class MeanWhere(Penalty):
    """Mean prediction of the examples whose column is 1."""

    def measure(self, labels, column):
        column = ops.cast(column, "float32")
        return ops.sum(labels.y_pred[:, 0] * column) / ops.sum(column), ops.ones(())


class OfOnes(MeanWhere):
    def check_column(self, task, values):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"Column '{self.column}' of task '{task}' should be 0 or 1. Received: {set(values)}")


def compiled(penalty):
    inputs = keras.Input((1,))
    head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras_mtl.MultiTaskModel(inputs, {"a": head(inputs)})
    model.compile(keras.optimizers.SGD(0.5), loss={"a": "mse"}, penalties={"a": penalty}, run_eagerly=True)
    return model


def test_its_gradient_is_added_to_that_of_the_loss():
    model = compiled(MeanWhere("marked", strength=0.25, name="mean"))
    logs = model.fit(X, {"a": X, "marked": COLUMN}, batch_size=6, verbose=0).history
    # The loss is 0 at the weight 1, so the penalty's gradient is all: 0.25 times the mean of 2, 4 and 6.
    assert logs["a_mean"] == pytest.approx([4.0]) and logs["loss"] == pytest.approx([0.0])
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.5 * 0.25 * 4.0]], rtol=1e-6)


def test_its_look_at_the_column_comes_before_the_first_step():
    model = compiled(OfOnes("marked", strength=0.25, name="mean"))
    with pytest.raises(ValueError, match="Column 'marked' of task 'a' should be 0 or 1"):
        model.fit(X, {"a": X, "marked": COLUMN + 1}, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], [[1.0]])
