"""The penalties of a compiled model, and what they read beside the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import as_list
from keras_mtl._types import Tensor
from keras_mtl.penalties.penalty import Penalty

if TYPE_CHECKING:
    from keras_mtl.losses.task_losses import TaskBatch


class PenaltyBatch(NamedTuple):
    """The penalties on one batch.

    Attributes:
        total: Scalar. What is added to the loss.
        values: Float tensor of shape `(P,)`.
        known: Float tensor of shape `(P,)`. 1 where the batch had what the
            penalty needs.
    """

    total: Tensor
    values: Tensor
    known: Tensor


class Penalties:
    """The tasks' penalties, in the order of the tasks.

    Args:
        given: Dict from task to a penalty or a list of them.
        losses: Dict from trained task to `keras.losses.Loss`.
        outputs: Dict from task to Keras tensor.
    """

    def __init__(
        self,
        given: Mapping[str, Sequence[Penalty] | Penalty],
        losses: Mapping[str, keras.losses.Loss],
        outputs: Mapping[str, keras.KerasTensor],
    ) -> None:
        unknown = [task for task in given if task not in losses]
        if unknown:
            raise ValueError(f"The keys of `penalties` should be trained tasks: {list(losses)}. Received: {unknown}")
        self.by_task = {}
        for task in losses:
            self.by_task[task] = as_list(given.get(task) or [])
        self.all = [(task, penalty) for task, of_task in self.by_task.items() for penalty in of_task]
        names = set()
        for task, penalty in self.all:
            if not isinstance(penalty, Penalty):
                raise ValueError(
                    f"`penalties` of task '{task}' should be penalties, such as `keras_mtl.fairness.ParityPenalty`. "
                    f"Received: {penalty!r}"
                )
            penalty.check_task(task, losses[task], tuple(outputs[task].shape))
            name = f"{task}_{penalty.name}"
            if name in names or any(other is penalty and of != task for of, other in self.all):
                raise ValueError(
                    f"The penalties of task '{task}' should have names of their own, and no task should share one with "
                    f"another. Received: '{penalty.name}' twice"
                )
            names.add(name)
        self.tracker = PenaltyMeans(self.all) if self.all else None

    def __bool__(self) -> bool:
        return bool(self.all)

    def build(self) -> None:
        """Makes the penalties' variables, where they are not made yet."""
        for _, penalty in self.all:
            if not penalty.built:
                penalty.build(None)

    def __call__(self, batch: TaskBatch, training: bool | None = False) -> PenaltyBatch:
        """Computes the penalties of a batch.

        Args:
            batch: `TaskBatch`.
            training: Boolean. Whether a column that is not there is an error.

        Returns:
            A `PenaltyBatch`.
        """
        total, values, known = ops.zeros((), "float32"), [], []
        for task, penalty in self.all:
            value = there = ops.zeros((), "float32")
            if penalty.column in batch.columns and task in batch.labels:
                value, there = penalty.measure(batch.labels[task], batch.columns[penalty.column])
                total = total + there * penalty.objective(value)
            elif training and penalty.column not in batch.columns:
                raise ValueError(
                    f"`y` should have the column '{penalty.column}', which penalty '{penalty.name}' of task '{task}' "
                    f"reads. Received: y with {[*batch.labels, *batch.columns]}"
                )
            values.append(ops.stop_gradient(value))
            known.append(there)
        return PenaltyBatch(total, ops.stack(values), ops.stack(known))

    def track(self, values: Tensor, known: Tensor, batch_size: Tensor) -> None:
        """Adds a batch, of all replicas, to the tracker."""
        self.tracker.update_state(values, known * batch_size)

    def update(self, values: Tensor, known: Tensor) -> None:
        """Moves the multipliers once a step was taken."""
        for index, (_, penalty) in enumerate(self.all):
            penalty.update(values[index], known[index])


class PenaltyMeans(keras.metrics.Metric):
    """Mean values of the penalties, in the logs as `<task>_<penalty>`.

    NaN where no batch had what the penalty needs. Multipliers are logged as
    `<task>_<penalty>_multiplier`, as they are at the end.

    Args:
        penalties: List of pairs of task and `Penalty`.
    """

    def __init__(self, penalties: Sequence[tuple[str, Any]]) -> None:
        super().__init__(name="penalties")
        # Behind a function: metrics track what they hold.
        self._penalties = lambda: penalties
        self.log_names = [
            name
            for task, penalty in penalties
            for name in (f"{task}_{penalty.name}", f"{task}_{penalty.name}_multiplier")[
                : 1 + (penalty.bound is not None)
            ]
        ]
        self.totals = self.add_weight(shape=(len(penalties),), initializer="zeros", name="totals")
        self.counts = self.add_weight(shape=(len(penalties),), initializer="zeros", name="counts")

    def update_state(self, values: Tensor, counts: Tensor) -> None:
        self.totals.assign_add(ops.where(counts > 0, values, ops.zeros_like(values)) * counts)
        self.counts.assign_add(counts)

    def result(self) -> dict[str, Tensor]:
        logs = {}
        for index, (task, penalty) in enumerate(self._penalties()):
            count = self.counts.value[index]
            mean = ops.divide_no_nan(self.totals.value[index], count)
            logs[f"{task}_{penalty.name}"] = ops.where(count > 0, mean, ops.full_like(mean, np.nan))
            if penalty.bound is not None:
                logs[f"{task}_{penalty.name}_multiplier"] = ops.convert_to_tensor(penalty.multiplier)
        return logs
