"""Task losses on labels and teachers together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl._keras_private import mask_of
from keras_mtl._types import Tensor
from keras_mtl.distillation.targets import soft_loss, soft_targets, target_kind, to_logits
from keras_mtl.losses.alignment import to_rank
from keras_mtl.losses.labels import Labels
from keras_mtl.losses.task_losses import TaskBatch, TaskLosses

if TYPE_CHECKING:
    from keras_mtl.distillation._teachers import Teachers


class DistillationLosses(TaskLosses):
    """Losses that mix labels with what teachers say, example by example.

    Where an example has a label, its loss is `g L(label) + (1 - g) L(teacher)`; for a regression that of
    the target `g y + (1 - g) teacher`. Where it has none, it is `L(teacher)`. A task's loss is the mean
    over all examples. In evaluation, labels count alone.

    What the teachers of a task say on a batch is a column beside its labels,
    of the name that `column_of` gives: a list of their outputs.

    Args:
        losses: Dict from task to `keras.losses.Loss`.
        outputs: Dict from the names of all outputs to their Keras tensors.
        teachers: `Teachers`.
        temperature: Dict from task to float.
        gold: Function that returns g, a scalar tensor.
        columns: As `TaskLosses`.
        **options: Other options of `TaskLosses`.
    """

    def __init__(
        self,
        losses: Mapping[str, keras.losses.Loss],
        outputs: Mapping[str, keras.KerasTensor],
        *,
        teachers: Teachers,
        temperature: Mapping[str, float],
        gold: Tensor,
        columns: Collection[str] = (),
        **options: Any,
    ) -> None:
        taught = [task for task in teachers.tasks if task in losses]
        said = [column_of(task) for task in taught]
        taken = [name for name in said if name in outputs or name in columns]
        if taken:
            raise ValueError(
                f"The names {taken} are those of what teachers say: no task, and no column that metrics or penalties "
                "read, should have one of them"
            )
        super().__init__(losses, outputs, columns=(*columns, *said), **options)
        self.temperature = temperature
        self.gold = gold
        self.kinds = {task: target_kind(losses[task], tuple(outputs[task].shape), task) for task in taught}
        self.logits = {task: bool(getattr(losses[task], "from_logits", False)) for task in taught}
        self.teachers_logits = {task: teachers.logits_of(task, self.logits[task]) for task in taught}

    def __call__(
        self,
        y: Mapping[str, Tensor],
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        training: bool | None = False,
    ) -> TaskBatch:
        batch = super().__call__(y, y_pred, sample_weight, training)
        said = {task: batch.columns[column_of(task)] for task in self.kinds if column_of(task) in batch.columns}
        if not training or not said:
            return batch
        gold = self.gold()
        sums, divisors, counts = list(batch.sums), list(ops.unstack(batch.divisors)), list(ops.unstack(batch.counts))
        for index, task in enumerate(self.tasks):
            if task in said:
                mixed = self._regression if self.kinds[task] == "regression" else self._classification
                sums[index], divisors[index], counts[index] = mixed(
                    task, batch, sums[index], y_pred[task], said[task], gold
                )
        return TaskBatch(sums, ops.stack(divisors), ops.stack(counts), batch.labels, batch.columns)

    def _classification(
        self, task: str, batch: TaskBatch, hard_sum: Tensor, y_pred: Tensor, said: Sequence[Tensor], gold: Tensor
    ) -> tuple[Tensor | int, ...]:
        kind, temperature = self.kinds[task], self.temperature[task]
        targets = soft_targets(said, kind, temperature, self.teachers_logits[task])
        labels = batch.labels.get(task)
        logits = to_logits(y_pred, kind, self.logits[task])
        values = soft_loss(targets, logits, kind, temperature, entrywise=labels is not None and labels.entrywise)
        exists = mask_of(y_pred)
        exists = ops.ones_like(values) if exists is None else _to_shape_of(ops.cast(exists, "float32"), values)
        labelled = _labelled(labels, values)
        total = gold * hard_sum + ops.sum(values * exists * (1.0 - gold * labelled))
        return total, *self._divisor(task, ops.sum(exists))

    def _regression(
        self, task: str, batch: TaskBatch, hard_sum: Tensor, y_pred: Tensor, said: Sequence[Tensor], gold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        del hard_sum
        targets = soft_targets(said, "regression")
        labels = batch.labels.get(task)
        exists = mask_of(y_pred)
        if exists is not None:
            exists = to_rank(ops.cast(exists, "bool"), len(targets.shape), f"The mask of task '{task}'")
        if labels is None:
            return self._loss(task, Labels(targets, y_pred, known=exists))
        y_true = ops.reshape(ops.cast(labels.y_true, "float32"), ops.shape(targets))
        known = None if labels.known is None else ops.cast(labels.known, "float32")
        share = gold * ops.ones_like(targets) if known is None else gold * _to_shape_of(known, targets)
        weight = labels.weight
        if weight is not None and known is not None:  # weights are those of labels
            weight = weight * known + (1.0 - known)
        mixed = share * y_true + (1.0 - share) * targets
        return self._loss(task, labels._replace(y_true=mixed, weight=weight, known=exists))

    def _divisor(self, task: str, count: int) -> tuple[Tensor | int, int]:
        return (ops.ones_like(count) if self.losses[task].reduction == "sum" else count), count


def column_of(task: str) -> str:
    """Name of the column in which the losses find what the teachers of a task say."""
    return f"{task}_teachers"


def _labelled(labels: Tensor, values: Tensor) -> Tensor:
    """1 where a value of the loss has a label."""
    if labels is None:
        return ops.zeros_like(values)
    if labels.mask is None:
        return ops.ones_like(values)
    return ops.broadcast_to(labels.mask, ops.shape(values))


def _to_shape_of(mask: Tensor, targets: Tensor) -> Tensor:
    while len(mask.shape) < len(targets.shape):
        mask = ops.expand_dims(mask, axis=-1)
    return mask * ops.ones_like(targets)
