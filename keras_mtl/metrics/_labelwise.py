"""The base of metrics on blocks of binary labels: a value for each label."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_integer
from keras_mtl._types import Tensor


class LabelwiseMetric(keras.metrics.Metric):
    """A metric of a block of L labels that is computed for each label alone.

    Its value is the mean over the labels that have one. Subclasses keep state
    with an axis of L and say what it amounts to in `values`.

    Args:
        num_labels: Integer. L, the units of the head.
        name: String. Name in the logs.
    """

    multi_label = True  # it takes labels of shape `(N, L)` with a weight for each entry

    def __init__(self, num_labels: int, name: str) -> None:
        super().__init__(name=name)
        self.num_labels = check_integer(num_labels, "num_labels", 1)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds one batch.

        Args:
            y_true: Labels of shape `(N, L)`.
            y_pred: Predictions of shape `(N, L)`.
            sample_weight: `None`, or weights of shape `(N,)` for examples or
                `(N, L)` for entries; 0 where a label is missing.
        """
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2 or y_pred.shape[-1] != self.num_labels:
            raise ValueError(
                f"Metric '{self.name}' should have predictions of shape (N, {self.num_labels}), since num_labels="
                f"{self.num_labels}. Received: shape {tuple(y_pred.shape)}"
            )
        y_pred = ops.cast(y_pred, "float32")
        weight = ops.ones_like(y_pred)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, "float32")
            weight = weight * (sample_weight if len(sample_weight.shape) == 2 else ops.expand_dims(sample_weight, -1))
        self.add_entries(ops.cast(y_true, "float32"), y_pred, weight)

    def add_entries(self, y_true: Tensor, y_pred: Tensor, weight: Tensor) -> None:
        """Adds one batch, all three float32 tensors of shape `(N, L)`."""
        raise NotImplementedError

    def values(self) -> tuple[Tensor, Tensor]:
        """Pair of float32 tensors of shape `(L,)`: the values, and 1 for the labels that have one, else 0."""
        raise NotImplementedError

    def result(self) -> Tensor:
        values, has_one = self.values()
        return ops.divide_no_nan(ops.sum(values * has_one), ops.sum(has_one))

    def by_label(self) -> np.ndarray:
        """The value of each label so far.

        Returns:
            NumPy array of shape `(L,)`; NaN for labels that have none.
        """
        values, has_one = (ops.convert_to_numpy(x) for x in self.values())
        return np.where(has_one > 0, values, np.nan)
