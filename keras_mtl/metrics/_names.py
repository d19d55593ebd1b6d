"""Metrics by name or as functions, as Keras' `compile` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import backend, ops

from keras_mtl._types import MetricLike, Shape, Tensor
from keras_mtl.losses.alignment import (
    aligned,
    as_single_entries,
    folded_axes,
    mask_of_values,
    static_shape,
    to_rank,
    weight_of_values,
)
from keras_mtl.losses.loss_axes import LossAxes, axes_of_function
from keras_mtl.losses.names import crossentropy, label_kind


class FunctionMetric(keras.metrics.Mean):
    """The mean of what a function `fn(y_true, y_pred)` says of each example, position or entry.

    Where labels are missing, it is the mean over the labelled ones. A function
    that returns one number for the batch, such as an F-score, has the mean of
    the batches. There missing labels are 0 in labels and predictions, if that
    does not change what it returns, as tried on random numbers.

    Args:
        fn: Function.
        output_shape: Shape of the task's output.
        name: String. Defaults to the function's name.
    """

    def __init__(self, fn: Callable[..., Any], output_shape: Shape, name: str | None = None) -> None:
        super().__init__(name=name or getattr(fn, "__name__", "metric"))
        self.fn = fn
        self._shape = tuple(output_shape) if len(output_shape) > 1 else (*output_shape, 1)
        self._axes: dict[int, LossAxes] = {}

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: float | None = None, only_mask: bool = True
    ) -> None:
        """Adds a batch.

        Args:
            y_true: Labels.
            y_pred: Predictions.
            sample_weight: `None` or float tensor of weights.
            only_mask: Boolean. Whether these are 0 and 1 alone.
        """
        if "float" in backend.standardize_dtype(y_pred.dtype):
            y_pred = ops.cast(y_pred, self.dtype)  # of mixed precision, beside labels of float32
        y_true, y_pred = aligned(y_true, y_pred)
        if sample_weight is None:
            super().update_state(self.fn(y_true, y_pred))
            return
        rank = len(y_pred.shape)
        if rank not in self._axes:
            self._axes[rank] = axes_of_function(self.fn, self._shape[:rank])
        axes = self._axes[rank]
        values = self.fn(y_true, y_pred)
        mask = sample_weight > 0
        if len(values.shape) == 0 or _folds(mask, values, axes.kept):
            same_rank = len(y_true.shape) == len(y_pred.shape)
            if axes.averages and same_rank:
                values = self.fn(as_single_entries(y_true), as_single_entries(y_pred))
                values = ops.reshape(values, ops.shape(y_pred))
                sample_weight, mask = (to_rank(t, len(y_pred.shape), "Its mask") for t in (sample_weight, mask))
            elif only_mask and axes.ignores_zeros and same_rank:
                known = to_rank(mask, len(y_pred.shape), "Its mask")
                y_true, y_pred = (ops.where(known, y, ops.zeros_like(y)) for y in (y_true, y_pred))
                values = self.fn(y_true, y_pred)
                if len(values.shape) == 0:
                    super().update_state(values, sample_weight=ops.cast(ops.any(mask), "float32"))
                    return
            else:
                raise ValueError(
                    f"`{self.name}` should return a value for each example, position or entry that can be left out or "
                    "weighted, or be a `keras.metrics.Metric` that takes `sample_weight`. Received: values of shape "
                    f"{static_shape(values)} beside weights of shape {static_shape(sample_weight)}"
                )
        weights = mask_of_values(mask, values, axes.kept)
        if not only_mask:
            weights = weight_of_values(sample_weight, values, axes.kept)
        weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
        super().update_state(ops.where(weights > 0, values, ops.zeros_like(values)), sample_weight=weights)


def _folds(mask: Tensor, values: Tensor, kept: tuple | None) -> bool:
    """Whether one value is of several places of the mask."""
    folded = folded_axes(static_shape(mask), static_shape(values), kept)
    return folded is None or any(mask.shape[axis] != 1 for axis in folded)


def get_metric(identifier: MetricLike, task: str, output_shape: Shape) -> keras.metrics.Metric:
    """Makes a `Metric` of what `compile(metrics={task: [...]})` was given.

    Args:
        identifier: String, `Metric`, config or function.
        task: String. The task, for messages.
        output_shape: Shape of the task's output.

    Returns:
        A `keras.metrics.Metric`.
    """
    if isinstance(identifier, keras.metrics.Metric):
        return identifier
    if identifier in ("accuracy", "acc"):
        return keras.metrics.MeanMetricWrapper(accuracy, name=identifier)
    if identifier in ("crossentropy", "ce"):
        return keras.metrics.MeanMetricWrapper(crossentropy, name=identifier)
    try:
        metric = keras.metrics.get(identifier)
    except ValueError as error:
        raise ValueError(f"The metrics of task '{task}' should be Keras metrics. Received: {identifier!r}") from error
    if isinstance(metric, keras.metrics.Metric):
        return metric
    if isinstance(identifier, str):
        return keras.metrics.MeanMetricWrapper(metric, name=identifier)
    if callable(metric):
        return FunctionMetric(metric, output_shape)
    raise ValueError(f"The metrics of task '{task}' should be Keras metrics. Received: {identifier!r}")


def accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Binary, categorical or sparse categorical accuracy, as the shapes say."""
    kind = label_kind(y_true, y_pred)
    return getattr(keras.metrics, f"{kind}_accuracy")(y_true, y_pred)
