"""Mean losses of the last two epochs, for methods that compare epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide
from keras_mtl.weighting.base import Weighting


class EpochMeans(Weighting):
    """Keeps each task's mean loss of its last two epochs, for `task_weights` to read.

    Means are over the batches in which a task is present. An epoch without the task does not count as one
    of its epochs: `last`, `before_last` and `epochs`, all of shape `(K,)`, stay as they are.
    """

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.loss_sum = self.add_state("loss_sum", shape)
        self.batches = self.add_state("batches", shape)
        self.epochs = self.add_state("epochs", shape)
        self.last = self.add_state("last", shape, 1.0)
        self.before_last = self.add_state("before_last", shape, 1.0)

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del weights, gramian
        self.loss_sum.assign_add(losses * present)
        self.batches.assign_add(present)

    def end_epoch(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        seen = self.batches > 0
        self.before_last.assign(ops.where(seen, self.last.value, self.before_last.value))
        self.last.assign(
            ops.where(seen, divide(self.loss_sum.value, ops.convert_to_tensor(self.batches.value)), self.last.value)
        )
        self.epochs.assign_add(ops.cast(seen, "float32"))
        self.loss_sum.assign(ops.zeros_like(self.loss_sum.value))
        self.batches.assign(ops.zeros_like(self.batches.value))
