"""Early stopping of single tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._types import Tasks
from keras_mtl.callbacks._copied import CopiedCallback
from keras_mtl.metrics.directions import higher_is_better


class TaskEarlyStopping(CopiedCallback):
    """Stops tasks one by one, each when it has had its time.

    A stopped task weighs 0 from then on and its own layers are left as they
    were at its best epoch; the shared layers go on learning from the others.
    When every task has stopped, training stops.

    Args:
        tasks: List of the tasks that may stop. Defaults to `None`: all.
        patience: Integer. A task stops after so many epochs without a better
            value of its monitored log. Defaults to `5`.
        min_delta: Float. How much counts as better. Defaults to `0.0`.
        monitor: String with `{task}` in it. Defaults to `"val_{task}_loss"`.
        mode: `"min"`, `"max"` or `"auto"` (told from the name). Defaults to
            `"auto"`.
        criterion: `"patience"`, or a function `(train_losses, val_losses,
            weight) -> bool` of the task's losses so far and its static weight,
            such as `tcdcn_criterion(...)`. Defaults to `"patience"`.
        restore_best_weights: Boolean. Whether the task's own layers go back to
            its best epoch when it stops. Defaults to `True`.

    Attributes:
        stopped: Dict from task to the epoch (from 0) in which it stopped.

    Raises:
        ValueError: If a task or a log is unknown, or `mode` is `"auto"` and
            the name of `monitor` does not tell which way is better.

    Example:

    >>> stopping = keras_mtl.callbacks.TaskEarlyStopping(tasks=["glasses"], patience=3)
    """

    _of_training = ("_weights",)

    def __init__(
        self,
        tasks: Tasks | None = None,
        patience: int = 5,
        min_delta: float = 0.0,
        monitor: str = "val_{task}_loss",
        mode: Literal["min", "max", "auto"] = "auto",
        criterion: str | Callable[..., bool] = "patience",
        restore_best_weights: bool = True,
    ) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"`mode` should be 'auto', 'min' or 'max'. Received: mode={mode!r}")
        if criterion != "patience" and not callable(criterion):
            raise ValueError(f"`criterion` should be 'patience' or a function. Received: criterion={criterion!r}")
        self._higher = mode == "max" or (mode == "auto" and _direction(monitor))
        self.tasks = tasks
        self.patience = patience
        self.min_delta = abs(min_delta)
        self.monitor = monitor
        self.mode = mode
        self.criterion = criterion
        self.restore_best_weights = check_boolean(restore_best_weights, "restore_best_weights")
        self.stopped = {}

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        trained = self.model.compiled_tasks.tasks
        self._watched = list(trained if self.tasks is None else self.tasks)
        unknown = [task for task in self._watched if task not in trained]
        if unknown:
            raise ValueError(f"`tasks` should be trained tasks: {trained}. Received: {unknown}")
        self.stopped = {}
        self._best = dict.fromkeys(self._watched, None)
        self._waited = dict.fromkeys(self._watched, 0)
        self._weights = {}
        self._train_losses = {task: [] for task in self._watched}
        self._val_losses = {task: [] for task in self._watched}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        for task in self._watched:
            if task not in self.stopped and self._is_over(task, logs or {}):
                self._stop(task, epoch)
        if len(self.stopped) == len(self.model.compiled_tasks.tasks):
            self.model.stop_training = True

    def _is_over(self, task: str, logs: Mapping[str, Any]) -> bool:
        log = self.monitor.format(task=task)
        if log not in logs:
            raise ValueError(f"`monitor` should name a log of task '{task}'. Received: {log!r}; logs: {sorted(logs)}")
        self._keep_if_best(task, float(logs[log]))
        if self.criterion == "patience":
            return self._waited[task] >= self.patience
        self._train_losses[task].append(float(logs[f"{task}_loss"]))
        self._val_losses[task].append(float(logs[f"val_{task}_loss"]))
        weight = self.model.task_weights()[task]
        return self.criterion(self._train_losses[task], self._val_losses[task], weight)  # type: ignore[operator]

    def _keep_if_best(self, task: str, value: float) -> None:
        best = self._best[task]
        gain = np.inf if best is None else (value - best if self._higher else best - value)
        gain = -np.inf if np.isnan(value) else gain  # of an epoch without labels, or of one gone wrong
        if gain > self.min_delta:
            self._best[task], self._waited[task] = value, 0
            if self.restore_best_weights:
                self._weights[task] = [np.array(v) for v in self._own(task)]
        else:
            self._waited[task] += 1

    def _own(self, task: str) -> list[keras.Variable]:
        sharing = self.model.sharing
        return [v for layer in sharing.layers if sharing.tasks_of(layer) == (task,) for v in layer.weights]

    def _stop(self, task: str, epoch: int) -> None:
        self.stopped[task] = epoch
        for variable, value in zip(self._own(task), self._weights.get(task, ()), strict=False):
            variable.assign(value)
        # Weight 0 stops its gradients; freezing stops momentum and weight decay.
        self.model.set_task_weights({task: 0.0})
        for layer in self.model.sharing.layers:
            if self.model.sharing.tasks_of(layer) == (task,):
                layer.trainable = False


def _direction(monitor: str) -> bool:
    """Whether more is better, from the monitored name without the task's, which may read like a metric."""
    try:
        return higher_is_better(monitor.replace("{task}", ""))
    except ValueError as error:
        raise ValueError(
            f"`mode` should say 'max' or 'min', since the name of monitor={monitor!r} does not tell which is better. "
            "Received: mode='auto'"
        ) from error


def tcdcn_criterion(threshold: float, window: int = 5) -> Callable[..., bool]:
    """The task-wise stopping rule of TCDCN.

    A task stops once trend times generalization gap passes the threshold:

    `k med(E) / (sum(E) - k med(E)) * (E_val - min E_tr) / (w min E_tr) > threshold`,

    with the training losses `E` of the last `k + 1` epochs and the task's
    weight `w`. While the training loss still falls fast, the trend is small or
    negative, and the task goes on.

    Args:
        threshold: Float. How much is too much; it depends on the data.
        window: Integer k. Defaults to `5`.

    Returns:
        A function for `TaskEarlyStopping(criterion=...)`.

    Reference:

    - Z. Zhang, P. Luo, C. C. Loy, X. Tang, "Facial Landmark Detection by Deep
      Multi-task Learning", ECCV 2014, equation 5.

    Deviations: the window has `k + 1` terms, so that a plateau gives a trend
    of k instead of 0/0; a trend that is not positive never stops a task.
    """

    def criterion(train_losses: Sequence[float], val_losses: Sequence[float], weight: float) -> bool:
        if len(train_losses) <= window:
            return False
        recent = np.asarray(train_losses[-window - 1 :], dtype="float64")
        middle = window * np.median(recent)
        rest = recent.sum() - middle
        lowest = max(float(np.min(train_losses)), 1e-12)
        if rest <= 0:
            return False
        gap = (val_losses[-1] - lowest) / (max(weight, 1e-12) * lowest)
        return bool(middle / rest * gap > threshold)

    return criterion
