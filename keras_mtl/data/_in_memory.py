"""Arrays as streams of batches, whose iterators outlive an epoch."""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_mtl._types import Data, Structure


class InMemory:
    """Arrays from which many short trainings and evaluations read.

    Over arrays, Keras makes two iterators for each epoch and optimizes their
    graph anew; where data are small, that takes more time than the steps.
    These streams have no end, so that `fit` makes one iterator for all epochs,
    as it is told how many steps they have.

    Args:
        data: Tuple `(x, y)` or `(x, y, sample_weight)` of arrays, with `None`
            where a task has no weights.
        batch_size: Integer. The last batch of an epoch may be smaller.
        steps_at_once: Integer. The model's `steps_per_execution`. Where it
            does not divide the steps of an epoch, streams end with an epoch,
            or Keras would go on into the next one. Defaults to `1`.
        rows: Array of integers: the examples that count. Defaults to all.

    Attributes:
        steps: Integer, of an epoch, or `None` where streams end with it.
    """

    def __init__(
        self, data: Data, batch_size: int, steps_at_once: int = 1, rows: npt.NDArray[np.int64] | None = None
    ) -> None:
        with tf.device("cpu"):
            self._tensors = keras.tree.map_structure(_tensor, tuple(data))
        size = next(len(a) for a in keras.tree.flatten(self._tensors) if a is not None)
        self._settings = (batch_size, steps_at_once)
        self._rows = np.arange(size) if rows is None else rows
        self._batch_size = min(batch_size, len(self._rows))
        steps = -(-len(self._rows) // self._batch_size)
        self.steps = None if steps % steps_at_once else steps

    def part(self, rows: np.ndarray) -> InMemory:
        """Some of the examples, of which no copy is made.

        Args:
            rows: Array of integers.

        Returns:
            `InMemory`.
        """
        return InMemory(self._tensors, *self._settings, rows=self._rows[rows])

    def shuffled(self) -> tf.data.Dataset:
        """Epoch after epoch, each in an order of its own.

        Returns:
            `tf.data.Dataset`, endless if there are `steps`. Keras' global seed,
            as it is now, decides about the orders.
        """
        return self._batches(self._places().shuffle(len(self._rows)))

    def in_order(self) -> tf.data.Dataset:
        """Epoch after epoch, as the arrays are. Returns a `tf.data.Dataset`, endless if there are `steps`."""
        if any(a is None or len(a) > len(self._rows) for a in keras.tree.flatten(self._tensors)):
            return self._batches(self._places())
        batches = tf.data.Dataset.from_tensor_slices(self._tensors).batch(self._batch_size)  # nothing to be traced
        return self._ended(batches).with_options(_options())

    def _places(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(self._rows)

    def _batches(self, places: tf.data.Dataset) -> tf.data.Dataset:
        def gathered(rows: tf.Tensor) -> Structure:
            return keras.tree.map_structure(lambda a: None if a is None else tf.gather(a, rows), self._tensors)

        return self._ended(places.batch(self._batch_size)).map(gathered).with_options(_options())

    def _ended(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return batches if self.steps is None else batches.repeat()


def _tensor(array: np.ndarray | None) -> tf.Tensor | None:
    """As Keras takes arrays: numbers with a point in its own precision."""
    if array is None or tf.is_tensor(array):
        return array
    array = np.asarray(array)
    return tf.convert_to_tensor(array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = 1
    return options
