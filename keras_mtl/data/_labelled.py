"""Counting labels: which are known, for which tasks, and where they meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mtl._types import Tensor


class Labelled:
    """Counts of known labels, batch by batch.

    Attributes:
        tasks: List of tasks, in the order in which they were met.
        examples: Number of examples.
        batches: Number of batches.
        together: Array of shape `(K, K)`. Examples with a known label of both
            tasks; of the task itself on the diagonal.
        without: Number of examples that have no label of any task.
        of_task: Dict from task to a `TaskLabels`.

    Args:
        missing: Dict from task to `"nan"`, a number or `None`.
        sample_space: Dict from task to the task whose label must be 1.
    """

    def __init__(self, missing: Mapping[str, str], sample_space: Mapping[str, Any]) -> None:
        self._missing, self._sample_space = missing, sample_space
        self.tasks, self.of_task = [], {}
        self.examples = self.batches = self.without = 0
        self.together = np.zeros((0, 0), "int64")

    def add(self, y: Mapping[str, Tensor], sample_weight: Tensor | None = None) -> None:
        """Counts one batch.

        Args:
            y: Dict from task to labels.
            sample_weight: `None`, an array, or a dict from task to array.
        """
        y = {task: np.asarray(labels) for task, labels in y.items() if labels is not None}
        check_same_examples(y)
        size = len(next(iter(y.values())))
        for task in y:
            if task not in self.of_task:
                self.tasks.append(task)
                self.of_task[task] = TaskLabels()
        grown = np.zeros((len(self.tasks),) * 2, "int64")
        grown[: len(self.together), : len(self.together)] = self.together
        seen = np.zeros((size, len(self.tasks)), "int64")
        for task, labels in y.items():
            weight = sample_weight.get(task) if isinstance(sample_weight, dict) else sample_weight
            known = self._known(task, labels, y, weight)
            self.of_task[task].add(labels, known)
            seen[:, self.tasks.index(task)] = known.reshape(size, -1).any(axis=1)
        self.together = grown + seen.T @ seen
        self.without += int((seen.sum(axis=1) == 0).sum())
        for task, labels in self.of_task.items():
            labels.empty_batches += int(not seen[:, self.tasks.index(task)].any())
        self.examples += size
        self.batches += 1

    def _known(
        self, task: str, labels: np.ndarray, y: Mapping[str, np.ndarray], weight: np.ndarray | None
    ) -> np.ndarray:
        missing = self._missing.get(task)
        if missing is None:
            known = np.ones(labels.shape, bool)
        elif missing == "nan":
            known = ~_is_nan(labels)
        else:
            known = labels != missing
        condition = self._sample_space.get(task)
        if condition is not None:
            known = known & _over(y[condition] == 1, labels)
        return known if weight is None else known & _over(np.asarray(weight) != 0, labels)


class TaskLabels:
    """Counts of one task's labels.

    Attributes:
        entries: Number of labels, single entries of vectors counted.
        known: Number of those that are known.
        by_label: `None`, or for vectors the known entries of each label, an
            array of shape `(L,)`.
        low, high: The smallest and the largest known label; for vectors those
            of each label.
        nan: Number of NaN that count as known.
        integers: Whether the labels are integers.
        empty_batches: Number of batches without a known label.
    """

    def __init__(self) -> None:
        self.entries = self.known = self.nan = self.empty_batches = 0
        self.by_label = self.low = self.high = None
        self.integers = False

    def add(self, labels: np.ndarray, known: np.ndarray) -> None:
        """Counts the labels of one batch; `known` is a boolean array of their shape."""
        vectors = labels.ndim > 1 and labels.shape[-1] > 1
        width = labels.shape[-1] if vectors else 1
        values = np.asarray(labels, "float64").reshape(-1, width)
        known = np.broadcast_to(known, labels.shape).reshape(-1, width)
        counts = known.sum(axis=0)
        self.integers = labels.dtype.kind in "iub"
        self.entries += known.size
        self.known += int(counts.sum())
        self.nan += int((np.isnan(values) & known).sum())
        low = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
        self.low = low if self.low is None else np.fmin(self.low, low)
        self.high = high if self.high is None else np.fmax(self.high, high)
        if vectors:
            self.by_label = counts if self.by_label is None else self.by_label + counts


def check_same_examples(y: Mapping[str, np.ndarray]) -> None:
    """Raises where labels have no axis of examples, or differ in its length."""
    if not y or any(labels.ndim == 0 for labels in y.values()):
        raise ValueError(
            "`y` should have labels with a first axis of examples; a data set should be batched. Received: shapes "
            f"{ {task: labels.shape for task, labels in y.items()} }"
        )
    first = next(iter(y))
    for task, labels in y.items():
        if len(labels) != len(y[first]):
            raise ValueError(
                f"The labels of all tasks should be of the same examples. Received: {len(y[first])} of task '{first}' "
                f"and {len(labels)} of task '{task}'"
            )


def _is_nan(labels: np.ndarray) -> np.ndarray:
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, bool)


def _over(mask: Tensor, labels: np.ndarray) -> np.ndarray:
    """A mask of examples, positions or entries, for each label."""
    while mask.ndim > labels.ndim and mask.shape[-1] == 1:
        mask = mask[..., 0]
    while mask.ndim < labels.ndim:
        mask = mask[..., None]
    return np.broadcast_to(mask, labels.shape)
