"""Task losses as (sum, divisor, count) over the labelled examples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import losses as keras_losses
from keras import ops

from keras_mtl._keras_private import mask_of
from keras_mtl._types import Structure, Tensor
from keras_mtl.losses.alignment import (
    as_single_entries,
    mask_of_values,
    static_shape,
    weight_of_values,
    without_last_axis,
)
from keras_mtl.losses.labels import Labels, read_labels
from keras_mtl.losses.loss_axes import LossAxes, axes_of_loss, check_label_shape


class TaskBatch(NamedTuple):
    """The tasks' losses on one batch, before any weighting.

    Attributes:
        sums: List of K scalar tensors. Summed loss of the labelled examples.
            Not stacked, so that the gradient of one task's loss never passes
            through the others'.
        divisors: Float tensor of shape `(K,)`. What the sums are divided by.
        counts: Float tensor of shape `(K,)`. Number of labelled examples; of
            positions or entries, where the loss has a value for each.
        labels: Dict from task to `Labels`, for the tasks in the batch.
        columns: Dict of what `y` has beside the tasks' labels.
    """

    sums: list
    divisors: Tensor
    counts: Tensor
    labels: dict[str, Labels]
    columns: dict


class TaskLosses:
    """Computes every task's loss over its own labelled examples.

    An example is unlabelled for a task where its label is missing (see
    `missing`), where the task's sample weight is exactly 0, or where it lies
    outside the task's sample space. Missing labels never reach the loss.

    Args:
        losses: Dict from task to `keras.losses.Loss`.
        outputs: Dict from the names of all outputs to their Keras tensors.
        missing: Dict from task to `"nan"` or the value of a missing label.
        sample_space: Dict from task to the task whose label must be 1.
        class_weight: Dict from task to a dict from class to weight.
        columns: Names of entries of `y` that metrics or penalties read.
    """

    def __init__(
        self,
        losses: Mapping[str, keras.losses.Loss],
        outputs: Mapping[str, keras.KerasTensor],
        missing: Mapping[str, Any] | None = None,
        sample_space: Mapping[str, str] | None = None,
        class_weight: Mapping[str, Mapping[int, float]] | None = None,
        columns: Sequence[str] = (),
    ) -> None:
        self.losses = losses
        self.tasks = tuple(losses)
        self.summed = [loss.reduction == "sum" for loss in losses.values()]
        self.outputs = tuple(outputs)
        self._shapes = {task: tuple(outputs[task].shape) for task in losses}
        self._axes = {}
        self.missing = missing or {}
        self.sample_space = sample_space or {}
        self.class_weight = class_weight or {}
        self.columns = tuple(columns)

    def __call__(
        self,
        y: Mapping[str, Tensor],
        y_pred: Mapping[str, Tensor],
        sample_weight: Tensor | None = None,
        training: bool | None = False,
    ) -> TaskBatch:
        """Computes the losses of a batch.

        Args:
            y: Dict from task to labels; tasks may be left out. Columns stand
                beside them.
            y_pred: Dict from task to predictions.
            sample_weight: `None`, a tensor, or a dict from task to tensor.
            training: Boolean. Class weights hold in training only.

        Returns:
            A `TaskBatch`.
        """
        columns = {name: y[name] for name in self.columns if y.get(name) is not None} if isinstance(y, dict) else {}
        y = self._by_task(self._without_columns(y), "y")
        if not isinstance(sample_weight, dict):
            sample_weight = dict.fromkeys(self.outputs, sample_weight)
        sample_weight = self._by_task(self._without_columns(sample_weight), "sample_weight")
        labels = {}
        for task in self.outputs:
            if y.get(task) is not None:
                loss = self.losses.get(task)
                of_classes = isinstance(loss, keras_losses.SparseCategoricalCrossentropy)
                inside, weight = self._inside(task, y, y_pred[task]), sample_weight.get(task)
                by_class = self.class_weight.get(task) if training else None
                counted = [self.missing.get(task), inside, weight, by_class, mask_of(y_pred[task])]
                axes = None
                if loss is not None:
                    if of_classes or any(one is not None for one in counted):
                        axes = self._axes_of(task)
                    check_label_shape(task, loss, axes, y[task], y_pred[task])
                labels[task] = read_labels(
                    y[task],
                    y_pred[task],
                    task,
                    axes=axes,
                    missing=self.missing.get(task),
                    inside=inside,
                    sample_weight=weight,
                    class_weight=by_class,
                    of_classes=of_classes,
                )
        absent = (ops.zeros((), "float32"),) * 3
        results = [self._loss(task, labels[task]) if task in labels else absent for task in self.tasks]
        sums, divisors, counts = zip(*results, strict=True)
        return TaskBatch(list(sums), ops.stack(divisors), ops.stack(counts), labels, columns)

    def _without_columns(self, given: Mapping[str, Tensor | np.ndarray | None]) -> Structure:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if key in self.outputs or key not in self.columns}

    def _by_task(
        self, given: Mapping[str, Tensor | np.ndarray | None], argument: str
    ) -> dict[str, Tensor | np.ndarray | None]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            if len(self.outputs) == 1:
                return {self.outputs[0]: given}
            raise ValueError(
                f"`{argument}` should be a dict keyed by task, {self.outputs}. Received: {type(given).__name__}"
            )
        unknown = [key for key in given if key not in self.outputs]
        if unknown:
            columns = f", or columns that metrics or penalties read: {self.columns}" if self.columns else ""
            raise ValueError(f"The keys of `{argument}` should be tasks: {self.outputs}{columns}. Received: {unknown}")
        return given

    def _axes_of(self, task: str, squeezed: bool = False) -> LossAxes | None:
        """The axes of a task's loss; `squeezed` where Keras drops the last axis of labels and predictions."""
        if (task, squeezed) not in self._axes:
            shape = self._shapes[task][:-1] if squeezed else self._shapes[task]
            self._axes[task, squeezed] = axes_of_loss(self.losses[task], shape)
        return self._axes[task, squeezed]

    def _inside(self, task: str, y: Mapping[str, Tensor | np.ndarray], y_pred: Tensor) -> Tensor | None:
        condition = self.sample_space.get(task)
        if condition is None:
            return None
        if y.get(condition) is None:
            raise ValueError(
                f"`sample_space` trains task '{task}' where the label of '{condition}' is 1, so `y` should have "
                f"'{condition}' too. Received: labels of {list(y)}"
            )
        labels = ops.convert_to_tensor(y[condition])
        given, predicted = tuple(labels.shape), tuple(y_pred.shape)
        needed = given[:-1] if given[-1:] == (1,) else given
        fits = all(None in (n, m) or n in (1, m) for n, m in zip(needed, predicted, strict=False))
        if len(needed) > len(predicted) or not fits:
            raise ValueError(
                f"`sample_space` trains task '{task}' where the label of '{condition}' is 1, so there should be one of "
                f"these for each example or entry of its predictions, of shape {predicted}. Received: labels of "
                f"shape {given}"
            )
        return ops.equal(labels, ops.cast(1, labels.dtype))

    def _loss(self, task: str, labels: Labels) -> tuple:
        """A task's (sum, divisor, count) on one batch: where values, mask, weights and divisor meet."""
        loss = self.losses[task]
        labels = _as_the_loss_takes(labels, loss)
        counted = [labels.weight, labels.known, labels.beside]
        axes = LossAxes() if all(one is None for one in counted) else self._axes_of(task, labels.squeezed)
        y_true, y_pred, weight, known = labels.y_true, labels.y_pred, labels.weight, labels.known
        comparable = labels.class_axis is None and _same_entries(y_true, y_pred)
        folded = [axis for axis in range(len(y_pred.shape)) if axis not in (axes.kept or (0,))] if comparable else []
        fold, per_entry = 1.0, axes.averages and (_is_finer(known, folded) or _is_finer(weight, folded))
        if per_entry:
            # A value for each entry, where Keras has their mean: every entry as an example of its own.
            values = ops.reshape(loss.call(as_single_entries(y_true), as_single_entries(y_pred)), ops.shape(y_true))
            fold = _size_of(y_pred, folded)
        else:
            if _is_finer(known, folded) or (known is not None and comparable and axes.kept is None):
                # No label, no prediction: what is 0 in both is ignored by ratios of sums such as Dice.
                y_pred = ops.where(known, y_pred, ops.zeros_like(y_pred))
            values = loss.call(y_true, y_pred)
        ignored = mask_of(values)  # what the loss itself leaves out, as `ignore_class` does
        values = ops.cast(values, "float32")
        if len(values.shape) == 0:
            return _scalar_loss(task, values, labels, axes)
        if _is_finer(known, folded) and not per_entry and not axes.ignores_zeros:
            _warn_of_entries_together(task, loss)
        masks = [] if ignored is None else [ops.cast(ignored, "bool")]
        if known is not None:
            masks.append(_checked(mask_of_values(known, values, axes.kept), task, known, values))
        if labels.beside is not None:
            masks.append(_checked(mask_of_values(labels.beside, values, None), task, labels.beside, values))
        if weight is not None:
            weight = _checked(weight_of_values(weight, values, axes.kept), task, weight, values)
        summed = loss.reduction == "sum"
        if not masks and weight is None:
            count = ops.cast(ops.size(values), "float32")
            return ops.sum(values), ops.ones_like(count) if summed else count, count
        mask = ops.ones_like(values, dtype="bool")  # of the full shape, so that what it counts are values of the loss
        for one in masks:
            mask = ops.logical_and(mask, one)
        # 0 * inf is NaN: values of unlabelled examples are replaced, not multiplied by 0.
        total = ops.where(mask, values, ops.zeros_like(values))
        mask = ops.cast(mask, "float32")
        count = ops.sum(mask)
        if weight is not None:
            total = total * weight
        total = ops.sum(total)
        if summed:  # an entry's part of a sum is the same whether others are labelled or not
            return total / fold, ops.ones_like(count), count
        if loss.reduction == "mean_with_sample_weight" and weight is not None:
            return total, ops.sum(mask * weight), count
        return total, count, count


def _as_the_loss_takes(labels: Labels, loss: keras.losses.Loss) -> Labels:
    """Labels of the loss's type, and without the last axis that Keras drops."""
    y_true, y_pred = _as_dtype(labels.y_true, loss.dtype), _as_dtype(labels.y_pred, loss.dtype)
    weight, known, squeezed = labels.weight, labels.known, False
    axis = getattr(loss, "axis", None)  # a tuple, as that of Dice, may name the last axis
    if labels.squeezed and not (isinstance(axis, (tuple, list)) and max(axis) >= len(y_pred.shape) - 1):
        y_true, y_pred = ops.squeeze(y_true, axis=-1), without_last_axis(y_pred)
        weight, known = (None if tensor is None else ops.squeeze(tensor, axis=-1) for tensor in (weight, known))
        squeezed = True
    return labels._replace(y_true=y_true, y_pred=y_pred, weight=weight, known=known, squeezed=squeezed)


def _same_entries(y_true: Tensor, y_pred: Tensor) -> bool:
    """Whether labels are of the predictions' own entries; losses of the user's own may take others."""
    sizes = zip(static_shape(y_true), static_shape(y_pred), strict=False)
    return len(y_true.shape) == len(y_pred.shape) and all(None in (n, m) or n == m for n, m in sizes)


def _is_finer(tensor: Tensor | None, axes: Sequence[int]) -> bool:
    """Whether a mask or weight differs along one of these axes."""
    return tensor is not None and any(tensor.shape[axis] != 1 for axis in axes)


def _size_of(tensor: Tensor, axes: Sequence[int]) -> float | Tensor:
    """The number of entries along these axes."""
    sizes = [ops.shape(tensor)[axis] for axis in axes]
    return float(math.prod(sizes)) if all(isinstance(n, int) for n in sizes) else ops.cast(ops.prod(sizes), "float32")


def _checked(brought: Tensor, task: str, given: Tensor, values: Tensor) -> Tensor:
    if brought is None:
        raise ValueError(
            f"The loss of task '{task}' should return values of shape (examples,), or one for each position or entry "
            f"of its labels, so that these can be left out or weighted. Received: values of shape "
            f"{static_shape(values)} beside a mask or weights of shape {static_shape(given)}. Let the loss return a "
            "value for each of what is masked, or mask and weigh whole examples"
        )
    return brought


def _warn_of_entries_together(task: str, loss: keras.losses.Loss) -> None:
    warnings.warn(
        f"The loss '{loss.name}' of task '{task}' looks at several entries of a label together. Entries without a "
        "label are 0 in labels and predictions there, which this loss does not ignore: examples that are labelled in "
        "part count with what that gives. Return a value for each entry, or leave such examples out.",
        stacklevel=2,
    )


def _scalar_loss(task: str, value: Tensor, labels: Labels, axes: LossAxes | None) -> tuple[Tensor, Tensor, Tensor]:
    batch_size = ops.cast(ops.shape(labels.y_pred)[0], "float32")
    if labels.known is None and labels.beside is None and labels.weight is None:
        return value * batch_size, batch_size, batch_size
    if labels.weight is not None or labels.beside is not None or not axes.ignores_zeros:
        raise ValueError(
            f"The loss of task '{task}' should return a value for each example, so that examples can be left out or "
            "weighted. Received: a loss that returns one number for the batch. `keras.losses.Dice` and `Tversky` take "
            "`axis`, such as (1, 2, 3) for maps; a function of your own can leave the first axis out of its mean"
        )
    rows = ops.reshape(ops.broadcast_to(labels.known, ops.shape(labels.y_true)), (ops.shape(labels.y_true)[0], -1))
    count = ops.sum(ops.cast(ops.any(rows, axis=-1), "float32"))
    return value * count, count, count


def _as_dtype(x: Tensor, dtype: str) -> Tensor:
    # A cast makes a new tensor, which would lose the logits that Keras keeps beside a softmax.
    return x if x.dtype == dtype else ops.cast(x, dtype)
