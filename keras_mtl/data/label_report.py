"""The result of `missing_report`: rates of labels, overlaps and warnings."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Structure, Tensor

if TYPE_CHECKING:
    from keras_mtl.data._labelled import Labelled

NAMED = 5  # tasks or pairs that a warning names; of the others it says how many there are


class MissingReport:
    """Which labels are known, by task.

    Made by `keras_mtl.data.missing_report`; printing it shows tables and
    warnings.

    Attributes:
        tasks: Tuple of tasks.
        examples: Integer. Number of examples.
        counts: Dict from task to the number of examples with a known label.
            Of a vector or an image, one known entry is enough.
        rates: Dict from task to their share of all examples.
        entry_rates: Dict from task to the share of single entries that are
            known; of a task with one label for an example, its rate.
        overlap: Array of shape `(K, K)`. Of the examples with a label of the
            row's task, the share that has one of the column's; NaN in the rows
            of tasks without labels.
        label_counts: Dict from task with vectors of labels to an array of
            shape `(L,)`, the known entries of each label.
        warnings: List of strings.

    Args:
        counts: A `keras_mtl.data._labelled.Labelled`.
        tasks: `None`, or a collection of tasks that should have labels.
        batch_size: `None` for data that came in batches, or an integer.
    """

    def __init__(self, counts: Labelled, tasks: Collection[str] | None = None, batch_size: int | None = None) -> None:
        absent = [task for task in tasks or () if task not in counts.tasks]
        self.tasks = (*counts.tasks, *absent)
        self.examples = counts.examples
        known = dict(zip(counts.tasks, np.diagonal(counts.together).tolist(), strict=True))
        self.counts = {task: known.get(task, 0) for task in self.tasks}
        self.rates = {task: count / max(self.examples, 1) for task, count in self.counts.items()}
        self.entry_rates = {
            task: counts.of_task[task].known / max(counts.of_task[task].entries, 1) if task in known else 0.0
            for task in self.tasks
        }
        self.overlap = np.full((len(self.tasks),) * 2, np.nan)
        for i, task in enumerate(counts.tasks):
            if known[task]:
                self.overlap[i] = 0.0
                self.overlap[i, : len(counts.tasks)] = counts.together[i] / known[task]
        of_vectors = {task: found for task, found in counts.of_task.items() if found.by_label is not None}
        self.label_counts = {task: found.by_label for task, found in of_vectors.items()}
        self.warnings = list(self._find_warnings(counts, absent, batch_size))

    def label_weights(self, task: str) -> np.ndarray:
        """Weights by which the labels of a block count alike in its loss.

        A block's loss is a mean over known entries, so that a label counts as
        often as it is known. Times these weights, as entries of
        `sample_weight`, each label that is known at all counts as much as any
        other.

        Args:
            task: String. A task with vectors of labels.

        Returns:
            float32 array of shape `(L,)`; 0 for labels that are never known.
        """
        if task not in self.label_counts:
            raise ValueError(
                f"`task` should have vectors of labels, as {list(self.label_counts)} do. Received: task={task!r}"
            )
        counts = self.label_counts[task]
        weights = counts.sum() / np.maximum(counts, 1) / max((counts > 0).sum(), 1)
        return np.where(counts > 0, weights, 0.0).astype("float32")

    def _find_warnings(self, counts: Labelled, absent: Sequence[str], batch_size: int | None) -> Iterator[str]:
        for task in absent:
            yield f"Task '{task}' is not among the labels."
        for task, found in counts.of_task.items():
            yield from self._of_task(task, found, counts.batches, batch_size)
        pairs = [
            f"'{other}' and '{task}'"
            for i, task in enumerate(self.tasks)
            for j, other in enumerate(self.tasks[:i])
            if self.overlap[i, j] == 0 and self.counts[other]
        ]
        if pairs:
            yield f"Never labelled together: {_some(pairs)}. No example tells how such tasks go together."
        if counts.without:
            share = 100 * counts.without / self.examples
            yield (
                f"{counts.without:,} of {self.examples:,} examples ({share:.2g} %) have no label of any task: they are "
                "read and not used."
            )

    def _of_task(self, task: str, found: Structure, batches: int, batch_size: int | None) -> Iterator[str]:
        if found.nan:
            yield f"Task '{task}' has {found.nan:,} NaN that `missing` does not name: its loss would be NaN."
        if not self.counts[task]:
            yield f"Task '{task}' has no known label in {self.examples:,} examples."
            return
        if found.integers and np.min(found.low) == -1:
            yield f"Task '{task}' has -1 among its integers: where that stands for a missing label, say `missing=-1`."
        if found.by_label is not None:
            never = int((found.by_label == 0).sum())
            constant = int((found.low == found.high).sum())
            size = len(found.by_label)
            if never:
                yield f"{never:,} of the {size:,} labels of task '{task}' have no known entry."
            if constant:
                yield f"{constant:,} of the {size:,} labels of task '{task}' are known with one value only."
        elif found.low[0] == found.high[0]:
            yield f"All known labels of task '{task}' are {found.low[0]:g}: there is nothing to learn."
        empty = (1 - self.rates[task]) ** batch_size if batch_size else found.empty_batches / batches
        if empty >= 0.05:
            what = f"of batches of {batch_size} about" if batch_size else "of the batches"
            yield (
                f"Task '{task}' has labels in {100 * self.rates[task]:.2g} % of the examples: "
                f"{what} {100 * empty:.2g} % have none, and do not train it."
            )

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for column in ("", "task", "examples", "%", "entries, %", "labels"):
            table.add_column(column, justify="left" if column == "task" else "right")
        for place, task in enumerate(self.tasks):
            size = len(self.label_counts[task]) if task in self.label_counts else 1
            shares = (f"{100 * rates[task]:.1f}" for rates in (self.rates, self.entry_rates))
            table.add_row(str(place + 1), task, f"{self.counts[task]:,}", *shares, f"{size:,}")
        stream = io.StringIO()
        console = Console(file=stream, width=120, markup=False, emoji=False, force_jupyter=False)
        console.print(f"Labels of {self.examples:,} examples", table, highlight=False)
        if 1 < len(self.tasks) <= 12:
            overlap = Table()
            overlap.add_column("")
            for place, _ in enumerate(self.tasks):
                overlap.add_column(str(place + 1), justify="right")
            for place, shares in enumerate(self.overlap):
                row = ("" if np.isnan(share) else f"{100 * share:.0f}" for share in shares)
                overlap.add_row(f"{place + 1} {self.tasks[place]}", *row)
            console.print("Of the row's examples, % that have the column's label too", overlap, highlight=False)
        return stream.getvalue() + "".join(f"- {warning}\n" for warning in self.warnings)


def _some(names: Sequence[str]) -> Tensor:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
