"""Samplers that look at nothing: uniform, by hand, one task after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.data._chooser import checked
from keras_mtl.data.samplers.base import Sampler

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class Uniform(Sampler):
    """Every task is as likely as any other: `p_k = 1 / K`.

    Example:

    >>> keras_mtl.data.Uniform().probabilities(0, keras_mtl.data.TaskStats({"a": 30, "b": 10}))
    array([0.5, 0.5])
    """

    reads = "nothing"

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        return np.full(len(stats.tasks), 1 / len(stats.tasks))


class Fixed(Sampler):
    """Probabilities by hand. A plain dict given as `sampler` means the same.

    Args:
        probabilities: Dict from task to probability, 1 in sum.

    Raises:
        ValueError: If tasks are missing or unknown, or the sum is not 1.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 30, "b": 10})
    >>> keras_mtl.data.Fixed({"a": 0.4, "b": 0.6}).probabilities(0, stats)
    array([0.4, 0.6])
    """

    reads = "nothing"

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        self.given = dict(probabilities)

    def prepare(self, stats: TaskStats) -> None:
        checked(self.given, stats.tasks, self)

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        return checked(self.given, stats.tasks, self)


class RoundRobin(Sampler):
    """The tasks come one after the other, in their order.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 30, "b": 10})
    >>> [int(np.argmax(keras_mtl.data.RoundRobin().probabilities(step, stats))) for step in range(4)]
    [0, 1, 0, 1]
    """

    reads = "step"

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        return np.eye(len(stats.tasks))[step % len(stats.tasks)]

    def rates(self, stats: TaskStats) -> np.ndarray:
        return np.full(len(stats.tasks), 1 / len(stats.tasks))
