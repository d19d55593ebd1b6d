"""Mean over the labels of a block of any function of labels and predictions."""

from __future__ import annotations

from typing import Any, Self

import keras
from keras import ops

from keras_mtl._keras_private import function_of
from keras_mtl._types import Tensor
from keras_mtl.metrics._labelwise import LabelwiseMetric


@keras.saving.register_keras_serializable(package="keras_mtl")
class LabelwiseMean(LabelwiseMetric):
    """Mean over labels of the mean of a function over the label's known entries.

    `1/L sum_l (sum_i w_il f(y_il, p_il) / sum_i w_il)`, over the labels that
    have a known entry. Unlike the mean over all entries, a label with few
    known entries counts as much as one with many.

    Args:
        num_labels: Integer. L, the units of the head.
        function: String or metric that Keras makes of a function, such as
            `keras.metrics.BinaryAccuracy(threshold=0.3)`, or a function
            `fn(y_true, y_pred)` with a value for each example. Defaults to
            `"binary_accuracy"`.
        name: String. Defaults to `"labelwise_<function>"`.

    Example:

    >>> metric = keras_mtl.metrics.LabelwiseMean(num_labels=2)
    >>> y_true, y_pred = np.array([[1, 0], [1, 0], [1, 0]]), np.array([[0.9, 0.9], [0.8, 0.1], [0.1, 0.1]])
    >>> metric.update_state(y_true, y_pred, sample_weight=np.array([[1, 1], [1, 0], [1, 0]]))
    >>> metric.by_label()  # 2 of 3 are right, and 0 of 1
    array([0.667, 0.   ], dtype=float32)
    >>> float(metric.result())
    0.333
    """

    def __init__(
        self, num_labels: int, function: str | keras.metrics.Metric = "binary_accuracy", name: str | None = None
    ) -> None:
        found = keras.metrics.get(function)
        if isinstance(found, keras.metrics.MeanMetricWrapper):
            fn = function_of(found)
        elif callable(found) and not isinstance(found, keras.metrics.Metric):
            fn = found
        else:
            raise ValueError(
                "`function` should be a function of labels and predictions or name one, such as 'binary_accuracy'. "
                f"Received: function={function!r}"
            )
        label = function if isinstance(function, str) else getattr(found, "__name__", None) or found.name
        super().__init__(num_labels, name or f"labelwise_{label}")
        self._function = function
        self._fn = fn
        self.totals = self.add_weight(shape=(num_labels,), initializer="zeros", name="totals")
        self.counts = self.add_weight(shape=(num_labels,), initializer="zeros", name="counts")

    def add_entries(self, y_true: Tensor, y_pred: Tensor, weight: Tensor) -> None:
        # Some functions keep the last axis and some take its mean; here it has one entry.
        values = ops.reshape(ops.cast(self._fn(y_true[..., None], y_pred[..., None]), "float32"), ops.shape(weight))
        values = ops.where(weight > 0, values, ops.zeros_like(values))
        self.totals.assign_add(ops.sum(values * weight, axis=0))
        self.counts.assign_add(ops.sum(weight, axis=0))

    def values(self) -> tuple[Tensor, Tensor]:
        return ops.divide_no_nan(self.totals.value, self.counts.value), ops.cast(self.counts.value > 0, "float32")

    def get_config(self) -> dict[str, Any]:
        function = keras.saving.serialize_keras_object(self._function)
        return {"num_labels": self.num_labels, "function": function, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "function": keras.saving.deserialize_keras_object(config["function"])})
