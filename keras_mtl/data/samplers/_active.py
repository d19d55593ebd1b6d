"""The base of samplers that read the logs of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._checks import is_integer
from keras_mtl.data.samplers.base import Sampler
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class ActiveSampler(Sampler):
    """A sampler that reads one log of each task.

    Args:
        monitor: String with `{task}` in it: the log. Those of training, such
            as `"{task}_accuracy"`, are read after every step, those of
            validation after every epoch.
        window: Integer. Of so many last values the mean counts.
        minimum: Float. No task is less likely than this: with the
            probabilities `p_k` of the method, those in use are
            `minimum + (1 - K minimum) p_k`.
    """

    def __init__(self, monitor: str, window: int, minimum: float) -> None:
        if not isinstance(monitor, str) or "{task}" not in monitor:
            raise ValueError(f"`monitor` should be a string with '{{task}}' in it. Received: monitor={monitor!r}")
        if not is_integer(window) or window < 1:
            raise ValueError(f"`window` should be an integer of at least 1. Received: window={window!r}")
        if not minimum >= 0:
            raise ValueError(f"`minimum` should be at least 0. Received: minimum={minimum}")
        self.monitor = monitor
        self.window = window
        self.minimum = minimum

    def prepare(self, stats: TaskStats) -> None:
        if self.minimum * len(stats.tasks) > 1:
            raise ValueError(
                f"`minimum` should be at most 1 / {len(stats.tasks)}, one over the number of tasks. "
                f"Received: minimum={self.minimum}"
            )

    def monitors(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.monitor.format(task=task) for task in tasks)

    def with_minimum(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities with none below the minimum."""
        return self.minimum + (1 - len(probabilities) * self.minimum) * np.asarray(probabilities)


class TargetSampler(ActiveSampler):
    """A sampler that compares tasks with what they should reach.

    Args:
        targets: Dict from task to the target of its log, above 0.
        monitor: As for `ActiveSampler`. Whether more is better is told from
            the name.
        window: As for `ActiveSampler`.
        minimum: As for `ActiveSampler`.
    """

    def __init__(self, targets: Mapping[str, float], monitor: str, window: int, minimum: float) -> None:
        super().__init__(monitor, window, minimum)
        self.targets = dict(targets)
        for task, target in self.targets.items():
            if not target > 0:
                raise ValueError(f"The target of task '{task}' should be above 0. Received: {target!r}")
        self._more_is_better = higher_is_better(monitor.format(task="task"))

    def prepare(self, stats: TaskStats) -> None:
        super().prepare(stats)
        if set(self.targets) != set(stats.tasks):
            raise ValueError(
                f"`targets` should have a number for each of the tasks {list(stats.tasks)}. "
                f"Received: targets={self.targets}"
            )

    def performance(self, stats: TaskStats, window: int | None = None) -> np.ndarray:
        """What the tasks reach of their targets, of shape `(K,)`: 1 for the target itself, NaN before any result."""
        scores = stats.of_tasks(self.monitor, self.window if window is None else window)
        targets = np.array([self.targets[task] for task in stats.tasks], "float64")
        if self._more_is_better:
            return scores / targets
        return targets / np.maximum(scores, 1e-12)


def one_hot(index: int, size: int) -> np.ndarray:
    """Probability 1 for one task."""
    return np.eye(size)[index]


def uniform(size: int) -> np.ndarray:
    """The same probability for all tasks."""
    return np.full(size, 1 / size)
