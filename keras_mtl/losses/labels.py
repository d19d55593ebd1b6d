"""Labels with gaps: which are known, at which positions, and what they weigh."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from keras import backend, ops

from keras_mtl._keras_private import mask_of
from keras_mtl._types import Structure, Tensor
from keras_mtl.losses.alignment import static_shape, to_rank, with_last_axis
from keras_mtl.losses.loss_axes import LossAxes


class Labels(NamedTuple):
    """One task's labels on one batch.

    A *position* is what can be labelled by itself: an entry of a label, or
    what a vector of classes or one class stands for.

    Attributes:
        y_true: Labels; 0 where they are missing. Of the predictions' rank
            where the two differed by a last axis of 1.
        y_pred: Predictions, of rank 2 or more.
        weight: `None` or float32 tensor of the rank of positions, with sizes
            of 1 where all are alike: sample and class weights.
        known: `None`, where all is labelled, or boolean tensor of the rank of
            positions, with sizes of 1 where all are alike.
        beside: `None` or boolean tensor. A mask of the predictions whose
            positions are not those of the labels.
        entrywise: Whether single entries of the last axis are masked or
            weighted, so that metrics count entries.
        squeezed: Whether Keras would drop the last axis of both, since labels
            had none.
        class_axis: Integer or `None`. The axis of `y_true` that is no position.
    """

    y_true: Any
    y_pred: Any
    weight: Any = None
    known: Any = None
    beside: Any = None
    entrywise: bool = False
    squeezed: bool = False
    class_axis: int | None = None

    @property
    def mask(self) -> Tensor | None:
        """`None` or float32 tensor of 0 and 1, as metrics take it: of entries, or of all but the last axis."""
        if self.known is None:
            return None
        return ops.cast(self._of_metrics(self.known, ops.all), "float32")

    @property
    def metric_weight(self) -> Tensor | None:
        """`None` or the weights, of the rank of `mask`."""
        return None if self.weight is None else self._of_metrics(self.weight, ops.max)

    def _of_metrics(self, tensor: Tensor, reduce: Callable[..., Any]) -> Tensor:
        if self.entrywise or len(tensor.shape) < 2 or len(tensor.shape) < len(self.y_pred.shape):
            return tensor
        # A label with several numbers is missing where any of them is.
        return reduce(tensor, axis=-1)  # of weights, the last axis is of size 1

    def where(self, condition: Tensor) -> Labels:
        """The labels, or the same with none of them known.

        Args:
            condition: Boolean scalar.

        Returns:
            `Labels`.
        """
        known = self.known
        if known is None:
            known = ops.ones_like(_without_axis(self.y_true, self.class_axis), dtype="bool")
        y_true, y_pred = (ops.where(condition, y, ops.zeros_like(y)) for y in (self.y_true, self.y_pred))
        return self._replace(y_true=y_true, y_pred=y_pred, known=ops.logical_and(known, condition))


def read_labels(
    y_true: Tensor,
    y_pred: Tensor,
    task: str,
    *,
    axes: LossAxes | None = None,
    missing: float | str | None = None,
    inside: Tensor | None = None,
    sample_weight: Tensor | None = None,
    class_weight: Mapping[int, float] | None = None,
    of_classes: bool = False,
) -> Labels:
    """Finds out which labels of a task are known, and puts 0 where they are not.

    Args:
        y_true: Labels of one task.
        y_pred: Predictions of that task.
        task: String. The task, for messages.
        axes: The `LossAxes` of its loss. Defaults to `None`: no loss.
        missing: `None`, `"nan"` or the value that stands for a missing label.
        inside: `None` or a boolean tensor over examples: the sample space.
        sample_weight: `None` or a tensor over examples, positions or entries.
            Where it is 0, the label does not count. Booleans are a mask.
        class_weight: `None` or a dict from class to weight. Where labels are
            of single entries, 0 and 1 are the classes of these.
        of_classes: Boolean. Whether labels are classes, not vectors.

    Returns:
        `Labels`.
    """
    axes = axes or LossAxes()
    mask_of_predictions = mask_of(y_pred)
    y_true = ops.convert_to_tensor(y_true)
    if len(y_pred.shape) == 1:
        y_pred = with_last_axis(y_pred)
    rank = len(y_pred.shape)
    squeezed = False
    class_axis = None
    if of_classes:
        if len(y_true.shape) == rank and y_true.shape[axes.class_axis] == 1:
            y_true = ops.squeeze(y_true, axis=axes.class_axis)
    else:
        if len(y_true.shape) == rank + 1 and y_true.shape[-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(y_true.shape) == rank - 1 and y_pred.shape[-1] == 1:
            squeezed = rank > 2
            y_true = y_true[..., None]
        if len(y_true.shape) == rank:
            class_axis = axes.class_axis
    positions = len(y_true.shape) - (class_axis is not None)

    known, weight = _known(y_true, missing, task), None
    if known is not None and class_axis is not None:
        known = ops.all(known, axis=class_axis)
    masks = [known, inside]
    if sample_weight is not None:
        what = f"The sample weights of task '{task}'"
        weight = to_rank(ops.convert_to_tensor(sample_weight), positions, what)
        _check_sizes(weight, y_true, class_axis, what)
        masks.append(ops.not_equal(weight, ops.zeros_like(weight)))
        weight = None if backend.standardize_dtype(weight.dtype) == "bool" else ops.cast(weight, "float32")
    beside = None
    if mask_of_predictions is not None:
        if _same_positions(mask_of_predictions, y_true, class_axis, positions, axes):
            masks.append(mask_of_predictions)
        else:
            beside = ops.cast(mask_of_predictions, "bool")
    known = None
    for mask in masks:
        if mask is not None:
            mask = to_rank(ops.cast(mask, "bool"), positions, f"The masks of task '{task}'")
            known = mask if known is None else ops.logical_and(known, mask)
    if known is not None:
        at_labels = known if class_axis is None else ops.expand_dims(known, axis=class_axis)
        y_true = ops.where(at_labels, y_true, ops.zeros_like(y_true))
    if class_weight:
        by_class = to_rank(_class_weights(y_true, y_pred, class_weight, axes, class_axis), positions, "Class weights")
        weight = by_class if weight is None else weight * by_class
    counted = [tensor for tensor in (known, weight) if tensor is not None]
    of_entries = positions == rank and y_pred.shape[-1] != 1 and any(t.shape[-1] != 1 for t in counted)
    entrywise = of_entries and axes.has_entries(rank)
    if of_entries and not entrywise and weight is not None and weight.shape[-1] != 1:
        raise ValueError(
            f"The weights of task '{task}' should be of examples or positions, of shape "
            f"{static_shape(y_true)[:-1]}, since its loss has no value for single entries. Received: weights of shape "
            f"{static_shape(weight)}. A mask of booleans may be of entries"
        )
    return Labels(y_true, y_pred, weight, known, beside, entrywise, squeezed, class_axis)


def _without_axis(tensor: Tensor, axis: int | None) -> Tensor:
    return tensor if axis is None else ops.take(tensor, 0, axis=axis)


def _check_sizes(weight: Tensor, y_true: Tensor, class_axis: int | None, what: str) -> None:
    wanted = [n for axis, n in enumerate(static_shape(y_true)) if axis != class_axis]
    given = static_shape(weight)
    if not all(None in (n, m) or n in (1, m) for n, m in zip(given, wanted, strict=True)):
        raise ValueError(
            f"{what} should be of examples, positions or entries of its labels, whose shape is {tuple(wanted)}. "
            f"Received: shape {given}"
        )


def _same_positions(mask: Tensor, y_true: Tensor, class_axis: int | None, positions: int, axes: LossAxes) -> bool:
    """Whether a mask of the predictions is one of the labels' positions, too."""
    rank = len(mask.shape)
    if rank > positions or (axes.unlike and rank > 1):
        return False
    sizes = [n for axis, n in enumerate(static_shape(y_true)) if axis != class_axis]
    return all(None in (n, m) or n == m for n, m in zip(static_shape(mask), sizes, strict=False))


def _known(y_true: Tensor, missing: float | str | None, task: str) -> Tensor | None:
    if missing is None:
        return None
    dtype = backend.standardize_dtype(y_true.dtype)
    if missing == "nan":
        return ops.logical_not(ops.isnan(y_true)) if "float" in dtype else None
    if not _holds(dtype, missing):
        warnings.warn(
            f"`missing` of task '{task}' is {missing!r}, which labels of {dtype} cannot be: all of them count as "
            "labelled. If that is right, leave the task out of `missing`.",
            stacklevel=2,
        )
        return None
    return ops.not_equal(y_true, ops.convert_to_tensor(missing, dtype=y_true.dtype))


def _holds(dtype: str, value: Structure) -> bool:
    """Whether labels of a dtype can have a value."""
    if dtype == "string":
        return False
    if "float" in dtype:
        largest = 65504.0 if dtype == "float16" else 3.0e38 if dtype != "float64" else np.inf
        return abs(value) <= largest
    if value != int(value):
        return False
    if dtype == "bool":
        return int(value) in (0, 1)
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max


def _class_weights(
    y_true: Tensor, y_pred: Tensor, class_weight: Mapping[int, float], axes: LossAxes, class_axis: int | None
) -> Tensor:
    """The weight of each position's class; of rank of positions or with the last axis of labels folded."""
    rank = len(y_pred.shape)
    binary = set(class_weight) <= {-1, 0, 1} and axes.has_entries(rank)
    if class_axis is not None:
        classes = ops.argmax(y_true, axis=class_axis)
    elif len(y_true.shape) == rank and y_true.shape[-1] != 1 and not binary:
        classes = ops.argmax(y_true, axis=-1)[..., None]
    else:
        classes = ops.cast(ops.round(ops.cast(y_true, "float32")), "int32")
    first = min(0, *class_weight)  # such as the -1 of a hinge loss
    table = [float(class_weight.get(c, 1.0)) for c in range(first, max(class_weight) + 1)] + [1.0]
    places = ops.where(classes < first, len(table) - 1, classes - first)
    return ops.take(ops.convert_to_tensor(table, "float32"), ops.clip(places, 0, len(table) - 1))
