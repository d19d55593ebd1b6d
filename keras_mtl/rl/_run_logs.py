"""The logs of policies in training, for callbacks and samplers."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._types import Structure, Tasks

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats
    from keras_mtl.rl._environments import Copies


class RunLogs:
    """Returns, lengths and training logs, by epoch and live.

    Args:
        workers: Dict from task to `keras_mtl.rl._environments.Copies`.
        stats: `keras_mtl.data.TaskStats`, which gets each task's returns and
            losses as they come.

    Attributes:
        last: Dict. The training logs of the last step.
    """

    def __init__(self, workers: Mapping[str, Copies], stats: TaskStats) -> None:
        self._workers, self._stats = workers, stats
        self._values = collections.defaultdict(list)
        self._told = dict.fromkeys(workers, 0)  # episodes that the stats know of
        self._seen = dict.fromkeys(workers, 0)  # episodes that earlier epochs have told of
        self.last = {}

    def add(self, tasks: Tasks, logs: Structure) -> None:
        """Adds the logs of a training step on some tasks."""
        self.last = logs
        absent = tuple(f"{task}_" for task in self._workers if task not in tasks)
        for name, value in logs.items():
            if not (absent and name.startswith(absent)):
                self._values[name].append(value)
        for task in tasks:
            self._stats.add(f"{task}_loss", logs.get(f"{task}_loss", np.nan))

    def end_rollout(self, tasks: Tasks) -> None:
        """Tells the stats of the episodes that ended."""
        for task in tasks:
            returns = self._workers[task].returns
            for value in returns[self._told[task] :]:
                self._stats.add(f"{task}_return", value)
            self._told[task] = len(returns)

    def end_epoch(self) -> dict[str, Any]:
        """The logs of an epoch."""
        logs = {name: float(np.mean(values)) for name, values in self._values.items()}
        self._values.clear()
        for task, worker in self._workers.items():
            start = self._seen[task]
            for name, values in (("return", worker.returns), ("length", worker.lengths)):
                logs[f"{task}_{name}"] = float(np.mean(values[start:])) if len(values) > start else float("nan")
            logs[f"{task}_steps"] = worker.steps
            self._seen[task] = len(worker.returns)
        return logs
