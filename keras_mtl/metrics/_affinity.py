"""Affinities: how much training one task helps another, with the tasks' names."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mtl._files import read_json, readable, whole_file
from keras_mtl._tables import table_text
from keras_mtl.metrics._affinity_plots import plot_affinity, plot_dendrogram


class Affinity:
    """A table of affinities between tasks.

    `values[i, j]` says how much task i helps task j: rows are sources, columns
    are targets. Most measures are not symmetric. The diagonal, a task's effect
    on itself, counts nowhere in grouping.

    Args:
        tasks: List of task names.
        values: Array of shape `(K, K)`. NaN where nothing is known.
        name: String. What was measured. Defaults to `"affinity"`.

    Raises:
        ValueError: If there are fewer than two tasks, names repeat, or the
            shape does not fit.

    Example:

    >>> affinity = keras_mtl.analysis.Affinity(["a", "b"], [[0.2, 0.1], [0.3, 0.4]])
    >>> affinity.of("b", "a")  # what b does for a
    0.3
    >>> affinity.symmetric().of("a", "b")
    0.2
    """

    def __init__(self, tasks: Sequence[str], values: np.ndarray, name: str = "affinity") -> None:
        self.tasks = tuple(tasks)
        self.values = np.array(values, dtype="float64")
        self.name = name
        count = len(self.tasks)
        if count < 2 or len(set(self.tasks)) != count:
            raise ValueError(f"`tasks` should be two different names or more. Received: tasks={list(self.tasks)}")
        if self.values.shape != (count, count):
            raise ValueError(
                f"`values` should have shape {(count, count)}, a row and a column for each of {list(self.tasks)}. "
                f"Received: shape {self.values.shape}"
            )

    def of(self, source: str, target: str) -> float:
        """How much `source` helps `target`."""
        return float(self.values[self._place(source), self._place(target)])

    @property
    def is_symmetric(self) -> bool:
        """Whether it is the same in both directions, the diagonal aside."""
        return bool(np.allclose(self.values, self.values.T, rtol=1e-6, atol=1e-12, equal_nan=True))

    def symmetric(self) -> Affinity:
        """The mean of both directions, as an `Affinity`."""
        return Affinity(self.tasks, (self.values + self.values.T) / 2, self.name)

    def filled(self, value: float = 0.0) -> Affinity:
        """The same with a number where nothing is known."""
        return Affinity(self.tasks, np.where(np.isnan(self.values), value, self.values), self.name)

    def check(self, symmetric: bool = False) -> Affinity:
        """Raises where values are missing, or differ between the directions.

        Args:
            symmetric: Boolean. Whether both directions should be equal.

        Returns:
            Itself.
        """
        off = ~np.eye(len(self.tasks), dtype=bool)
        bad = np.argwhere(~np.isfinite(self.values) & off)
        if len(bad):
            source, target = (self.tasks[k] for k in bad[0])
            raise ValueError(
                f"Affinities should be finite. Received: {self.of(source, target)} of task '{source}' on task "
                f"'{target}' ({len(bad)} such pairs). `Affinity.filled(0.0)` puts a number there."
            )
        if symmetric and not self.is_symmetric:
            source, target = (
                self.tasks[k] for k in np.unravel_index(np.argmax(abs(self.values - self.values.T)), self.values.shape)
            )
            raise ValueError(
                f"Affinities should be the same in both directions here. Received: {self.of(source, target):g} of "
                f"task '{source}' on task '{target}', {self.of(target, source):g} the other way. "
                "`Affinity.symmetric()` takes the mean."
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Sources to targets to values, as JSON-compatible values."""
        rows = {
            s: dict(zip(self.tasks, row, strict=True)) for s, row in zip(self.tasks, self.values.tolist(), strict=True)
        }
        return {"name": self.name, "affinity": rows}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Affinity:
        """Makes what `to_dict` was made from.

        Args:
            content: Dict as `to_dict` gives it, or a dict from source to
                target to value. What is left out is unknown.

        Returns:
            An `Affinity`.
        """
        rows = content.get("affinity", content)
        tasks = list(rows)
        unknown = [target for row in rows.values() for target in row if target not in rows]
        if unknown:
            raise ValueError(f"Affinities should be on tasks that have a row: {tasks}. Received: {unknown[:5]}")
        values = [[rows[s].get(t, np.nan) for t in tasks] for s in tasks]
        return cls(tasks, values, content["name"] if rows is not content else "affinity")  # type: ignore[arg-type]

    def save(self, path: str | os.PathLike) -> None:
        """Writes it to a JSON file."""
        with whole_file(path) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Affinity:
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file is damaged or holds something else.
        """
        with readable(path, "affinities"):
            return cls.from_dict(read_json(pathlib.Path(path), {"affinity": dict, "name": str}))

    def plot(self, path: str | os.PathLike) -> None:
        """Draws a heat map; sources are rows.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        plot_affinity(self, path)

    def plot_dendrogram(self, path: str | os.PathLike, groups: int | None = None) -> None:
        """Draws the tree of average-linkage clustering.

        Args:
            path: Path of a PNG, PDF or SVG file.
            groups: Integer. Number of groups, each in a color of its own.

        Raises:
            ValueError: If the affinities are not symmetric.
        """
        plot_dendrogram(self, path, groups)

    def __str__(self) -> str:
        rows = [
            [task, *("–" if np.isnan(value) else f"{value:.3g}" for value in row)]
            for task, row in zip(self.tasks, self.values, strict=True)
        ]
        return f"{self.name}: row helps column\n{table_text(['', *self.tasks], rows, left=[''])}"

    def _place(self, task: str) -> int:
        if task not in self.tasks:
            raise ValueError(f"`task` should be one of {self.tasks}. Received: {task!r}")
        return self.tasks.index(task)


def as_affinity(
    scores: Affinity | Mapping[str, Mapping[str, float]] | npt.ArrayLike, tasks: Sequence[str] | None = None
) -> Affinity:
    """Reads affinities in any of the forms that functions take.

    Args:
        scores: `Affinity`, dict from source to target to value, or array.
        tasks: List of names for an array. Defaults to `"0"`, `"1"`, ...

    Returns:
        An `Affinity`.
    """
    if isinstance(scores, Affinity):
        return scores
    if isinstance(scores, dict):
        return Affinity.from_dict(scores)
    values = np.asarray(scores, dtype="float64")
    return Affinity([str(k) for k in range(len(values))] if tasks is None else tasks, values)
