"""Feedback of training to the sampler of a mixture, and its logs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    from keras_mtl.data._chooser import Chooser


class Feedback(keras.callbacks.Callback):
    """The callback of a mixture, which `MultiTaskModel.fit` adds by itself.

    After every step it puts the step's mean loss and metrics into the
    mixture's `stats`, for the tasks that were in it, and tells the sampler. At
    the end of an epoch it logs `<task>_batches`, how often each task was
    drawn, and `<task>_probability`, its mean probability over the epoch, and
    warns of tasks that were never drawn.

    Args:
        tasks: Tuple of the mixture's tasks.
        chooser: Its `Chooser`.
    """

    def __init__(self, tasks: Sequence[str], chooser: Chooser) -> None:
        super().__init__()
        self._tasks = tasks
        self._chooser = chooser
        self._before, self._left_out = {}, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # the mixture's own, which has one stream and one sampler

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        # A plain Keras model may train on a mixture too, as long as its sampler reads nothing from it.
        self._compiled = getattr(self.model, "compiled_tasks", None)
        if self._chooser.live:
            self._check_monitors()

    def _check_monitors(self) -> None:
        name = type(self._chooser.sampler).__name__
        if self._compiled is None:
            raise ValueError(
                f"{name} reads how training goes, so the model should be a `keras_mtl.MultiTaskModel`. "
                f"Received: {type(self.model).__name__}"
            )
        known = [f"{task}_loss" for task in self._compiled.tasks]
        known += [metric.name for metric in self._compiled.task_metrics]
        known += [f"val_{log}" for log in known]
        monitors = getattr(self._chooser.sampler, "monitors", lambda tasks: ())
        for log in monitors(self._tasks):
            if log not in known:
                raise ValueError(
                    f"`monitor` of {name} should name a log of every task; is the metric compiled for each? "
                    f"Received: {log!r}; logs: {known}"
                )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._before = {}  # Keras has reset the trackers
        self._left_out = self._not_released()
        if self._compiled is not None:
            self._compiled.leave_out(self._left_out)

    def _not_released(self) -> tuple[str, ...]:
        """Tasks that a curriculum keeps back, of which nobody need be warned."""
        released = getattr(self._chooser.sampler, "released", None)
        if released is None:
            return ()
        free = released(self._chooser.step, self._chooser.stats)
        return tuple(task for task, is_free in zip(self._tasks, free, strict=True) if not is_free)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._chooser.live:
            return
        from keras_mtl.training.backends import core

        core.synchronize(self.model)
        stats, tracker = self._chooser.stats, self._compiled.loss_tracker
        means, counts = self._since_last("loss", tracker.totals, tracker.counts)
        for index, task in enumerate(self._compiled.tasks):
            if counts[index] > 0 and task in self._tasks:
                stats.add(f"{task}_loss", means[index])
                self._add_metrics(task)
                self._chooser.observe(self._tasks.index(task))

    def _add_metrics(self, task: str) -> None:
        for metric in self._compiled.task_metrics:
            # Means tell what the last step alone was like. Others, such as AUC, only what the epoch has been so far.
            if metric.task == task and hasattr(metric.metric, "total") and hasattr(metric.metric, "count"):
                mean, count = self._since_last(metric.name, metric.metric.total, metric.metric.count)
                if count > 0:
                    self._chooser.stats.add(metric.name, mean)

    def _since_last(self, name: str, total: Tensor, count: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Means and counts of what a tracker has seen since the last step."""
        total, count = (keras.ops.convert_to_numpy(sums) for sums in (total, count))
        old_total, old_count = self._before.get(name, (0.0, 0.0))
        self._before[name] = total, count
        seen = count - old_count
        return (total - old_total) / np.maximum(seen, 1e-12), seen

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        stats = self._chooser.stats
        by_step = {f"{task}_loss" for task in self._tasks} | set(self._before)
        for log, value in logs.items():
            if self._chooser.live and log not in by_step and not np.isnan(value).any():  # NaN: nothing was seen
                stats.add(log, value)
        record = self._chooser.take_record()
        if record is None:
            return
        counts, probabilities = record
        for task, count, probability in zip(self._tasks, counts, probabilities, strict=True):
            logs[f"{task}_batches"] = int(count)
            logs[f"{task}_probability"] = float(probability)
            if count == 0 and task not in self._left_out:
                warnings.warn(
                    f"Task '{task}' was never drawn in epoch {epoch + 1}, at a mean probability of {probability:.3g} "
                    f"in {counts.sum()} steps: it was not trained, and its losses and metrics of this epoch are NaN.",
                    stacklevel=2,
                )
        if self._compiled is not None:  # one warning is enough
            self._compiled.leave_out(task for task, count in zip(self._tasks, counts, strict=True) if count == 0)
