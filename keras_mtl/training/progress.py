"""What `fit` and `evaluate` print."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._types import Callbacks, Structure
from keras_mtl.metrics._trackers import split_log

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

_WIDTH = 120  # columns that no line goes beyond, unless one name is longer
_BAR = 52  # of them, what Keras' bar and times take
_TASKS = 12  # with a line each


def with_progress(callbacks: Callbacks | None, verbose: int | str) -> Callbacks:
    """Adds `TaskProgress` to callbacks, unless they bring what prints already.

    Args:
        callbacks: `None`, a callback, a list, or a `CallbackList`, which has it already.
        verbose: As `fit` takes it. With 0 nothing is added.

    Returns:
        What `fit` takes.
    """
    if verbose == 0 or isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    given = keras.tree.flatten(callbacks)
    given = [callback for callback in given if callback is not None]
    if any(isinstance(callback, keras.callbacks.ProgbarLogger) for callback in given):
        return given
    return [*given, TaskProgress()]  # last, to see what the others log


class TaskProgress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar with a line for each task, when an epoch ends.

    Keras puts all logs of all tasks on one line. Here the bar has what is of no
    one task, and below it stands each task with its loss, its metrics and what
    else is its own. Weights that are those given to `compile` are left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False

    def set_model(self, model: MultiTaskModel) -> None:
        super().set_model(model)
        self._trained = model  # on JAX `self.model` hands all state back, which is not for each step

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._in_fit = True
        super().on_train_begin(logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, self._running(logs))

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        super().on_test_batch_end(batch, self._running(logs))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._end(super().on_epoch_end, logs, epoch)

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._in_fit:  # the epoch's end tells of the validation
            self._end(super().on_test_end, logs)

    def _end(self, finish: Callable[..., None], logs: Mapping[str, Any] | None, *epoch: int) -> None:
        common, of_tasks = self._parted(logs)
        lines = _lines({"": common}, [""]) if common else []
        if len(lines) > 1 or sum(map(len, lines)) > _WIDTH - _BAR:
            finish(*epoch, {name: common[name] for name in ("loss", "val_loss") if name in common})
            rest = {name: value for name, value in common.items() if name not in ("loss", "val_loss")}
            of_tasks = {**of_tasks, "": rest}
        else:
            finish(*epoch, common)
        if self.verbose in (1, 2):
            for line in _lines(of_tasks, [*self._tasks(), ""]):
                _show(line)

    def _running(self, logs: Mapping[str, Any] | None) -> dict[str, Any]:
        """The total, and the tasks' losses if all of them fit."""
        if self.verbose != 1 or not logs:
            return {}
        names = [name for name in ("loss", *(f"{task}_loss" for task in self._tasks())) if name in logs]
        fit = sum(len(f" - {name}: 0.0000") for name in (*names, "val_loss")) <= _WIDTH - _BAR
        return {name: logs[name] for name in (names if fit else names[:1])}

    def _tasks(self) -> tuple[str, ...]:
        return self._trained.compiled_tasks.tasks

    def _parted(self, logs: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The logs of no one task, and dicts of those of each task."""
        common, of_tasks, logs = {}, {task: {} for task in self._tasks()}, dict(logs or {})
        static = self.model.task_weights()
        if all(abs(logs.get(f"{task}_weight", value) - value) <= 1e-6 * abs(value) for task, value in static.items()):
            logs = {name: value for name, value in logs.items() if name not in {f"{task}_weight" for task in static}}
        for log, value in sorted(logs.items(), key=lambda entry: _rank(entry[0])):
            of_task = split_log(log, of_tasks)
            if of_task is None:
                common[log] = value
            else:
                of_tasks[of_task[0]][of_task[1]] = value
        return common, of_tasks


def _lines(of_tasks: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]) -> list[str]:
    """Lines of at most `_WIDTH` columns: a task, what is of training, what is of validation."""
    shown = [task for task in tasks if of_tasks.get(task)]
    named = [task for task in shown if task]
    hidden = len(named) - _TASKS if len(named) > _TASKS + 1 else 0
    shown = [task for task in shown if task not in named[len(named) - hidden :]]
    width = max(map(len, shown), default=0)
    lines = []
    for task in shown:
        train = {name: value for name, value in of_tasks[task].items() if not name.startswith("val_")}
        parts = [f"{name} {_number(value)}" for name, value in train.items()]
        validation = [f"{n[4:]} {_number(value)}" for n, value in of_tasks[task].items() if n.startswith("val_")]
        if validation:
            validation[0] = f"| val: {validation[0]}"
        line = f"  {task:<{width}}"
        for part in [*parts, *validation]:
            if len(line) + 2 + len(part) > _WIDTH:
                lines.append(line)
                line = " " * (width + 2)
            line += f"  {part}"
        lines.append(line)
    if hidden:
        lines.append(f"  and {hidden} more tasks, which `fit` returns the history of")
    return lines


def _rank(log: str) -> int:
    """Losses first, what describes the step last, and between them the metrics."""
    return 0 if log.endswith("loss") else 2 if log.endswith(("_grad_norm", "_weight")) else 1


def _number(value: Structure) -> str:
    try:
        value = float(value)
    except (TypeError, ValueError):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def _show(line: str) -> None:
    """As Keras shows its bar."""
    if keras.config.is_interactive_logging_enabled():
        print(line, flush=True)
    else:
        logging.getLogger("absl").info(line)
