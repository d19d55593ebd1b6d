"""Statistics for samplers: sizes, counts and logs of training."""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

KEPT = 1000  # values of a log that are kept


class TaskStats:
    """Live statistics of the tasks of a mixture.

    During `fit` of a `MultiTaskModel`, each step adds its mean loss and its
    metrics (those that are means, such as accuracy) for the tasks that were in
    the batch; each epoch adds what else is in the logs, such as `val_...`.

    Args:
        sizes: Dict from task to the number of examples of its data set (of
            batches, where those come ready); NaN where it is not known.
        steps_per_epoch: Integer, or `None` where it is not known yet.

    Attributes:
        tasks: Tuple of K task names.
        sizes: Float array of shape `(K,)`.
        steps_per_epoch: Integer.
        counts: Integer array of shape `(K,)`. How often each task was drawn.
        trained: Integer array of shape `(K,)`. How many steps with it have
            reported back.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 10}, steps_per_epoch=5)
    >>> for accuracy in (0.5, 0.6, 0.8):
    ...     stats.add("a_accuracy", accuracy)
    >>> stats.recent("a_accuracy", 2)
    0.7
    """

    def __init__(self, sizes: Mapping[str, float], steps_per_epoch: int | None = None) -> None:
        self.tasks = tuple(sizes)
        self.sizes = np.array([sizes[task] for task in self.tasks], "float64")
        self.steps_per_epoch = steps_per_epoch
        self.counts = np.zeros(len(self.tasks), "int64")
        self.trained = np.zeros(len(self.tasks), "int64")
        self._values, self._first = {}, {}

    def add(self, log: str, value: float | np.ndarray) -> None:
        """Adds a value of a log, such as `"a_accuracy"`; one that is not finite is left out."""
        value = float(value)
        if np.isfinite(value):
            self._first.setdefault(log, value)
            self._values.setdefault(log, collections.deque(maxlen=KEPT)).append(value)

    def recent(self, log: str, window: int = 1) -> float:
        """Mean of the last values of a log.

        Args:
            log: String, such as `"a_loss"`.
            window: Integer. How many values; fewer where there are not so many,
                and at most 1,000 are kept. Defaults to `1`.

        Returns:
            Float; NaN where there is no value yet.
        """
        values = self._values.get(log)
        return float(np.mean(list(values)[-window:])) if values else float("nan")

    def first(self, log: str) -> float:
        """The first value that a log had; NaN where there is none yet."""
        return self._first.get(log, float("nan"))

    def of_tasks(self, template: str, window: int = 1) -> np.ndarray:
        """`recent` for every task.

        Args:
            template: String with `{task}` in it, such as `"{task}_loss"`.
            window: Integer. As in `recent`.

        Returns:
            Array of shape `(K,)`.
        """
        return np.array([self.recent(template.format(task=task), window) for task in self.tasks])

    def get_state(self) -> dict[str, Any]:
        """What `set_state` takes, fit for JSON."""
        return {
            "counts": self.counts.tolist(),
            "trained": self.trained.tolist(),
            "values": {log: list(values) for log, values in self._values.items()},
            "first": self._first,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to an earlier state."""
        self.counts[:] = state["counts"]
        self.trained[:] = state["trained"]
        self._values = {log: collections.deque(values, maxlen=KEPT) for log, values in state["values"].items()}
        self._first = dict(state["first"])
