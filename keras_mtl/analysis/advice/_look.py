"""A look at the data before anything is trained."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mtl._types import Structure
from keras_mtl.analysis.advice._arrays import is_number, size_of
from keras_mtl.analysis.task_relations import task_relations
from keras_mtl.data.missing import missing_report

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem

FEW = 0.1  # a task with this part of the largest task's labels, or less, has few
RARE = 0.05  # a class that fewer of the labelled examples have is rare
APART = 100.0  # mean squared errors that differ by this factor are of different scales: labels by 10
RELATED = 0.5


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was seen, in the data or in a training.

    Args:
        kind: String, such as `"few labels"`.
        text: String. A sentence with the number.
        tasks: Tuple of the tasks that it is about.
        numbers: Dict of what was measured.
    """

    kind: str
    text: str
    tasks: tuple = ()
    numbers: dict = dataclasses.field(default_factory=dict)


def look(problem: Problem) -> list[Finding]:
    """Reads labels and inputs.

    Args:
        problem: `Problem`.

    Returns:
        List of `Finding`.
    """
    y = {task: problem.train[1][task] for task in problem.tasks}
    found = [*_labels(problem, y), *_scales(problem, y), *_relations(problem, y)]
    return [*found, *_overlaps(problem)]


def label_counts(problem: Problem) -> dict[str, int]:
    """How many training examples have a label, by task, with those that a seed holds out."""
    return {task: int(problem.known(problem.all_training[1], task).sum()) for task in problem.tasks}


def _labels(problem: Problem, y: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    counts = label_counts(problem)
    most = max(counts.values())
    for task, count in counts.items():
        if count <= FEW * most:
            yield Finding(
                "few labels",
                f"Task '{task}' has {count:,} labels where the largest task has {most:,}: sharing may help it.",
                (task,),
                {"labels": count},
            )
        labels = np.asarray(y[task])[problem.known(y, task)]
        if labels.ndim == 2 and labels.shape[1] > 1:
            continue
        if is_number(labels) or len(np.unique(labels)) > max(50, len(labels) // 20):
            continue
        classes, times = np.unique(labels, return_counts=True)
        rarest = times.min() / times.sum()
        if len(classes) > 1 and rarest < RARE:
            yield Finding(
                "imbalance",
                f"Task '{task}' is unbalanced: class {classes[times.argmin()]:g} has {100 * rarest:.2g} % of its "
                f"labels ({times.min():,} examples). Accuracy says little there; an AUC or `class_weight` says more.",
                (task,),
                {"rarest": float(rarest)},
            )
    report = missing_report(
        y,
        missing=problem.compile_options.get("missing"),
        sample_space=problem.compile_options.get("sample_space"),
        batch_size=problem.batch_size,
    )
    yield from (Finding("labels", warning) for warning in report.warnings)


def _scales(problem: Problem, y: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    if problem.scales:
        named = ", ".join(f"'{task}' (divided by {scale[1]:.3g})" for task, scale in problem.scales.items())
        yield Finding("standardized", f"Labels were standardized: {named}.", tuple(problem.scales))
        return
    deviations = {}
    for task, labels in y.items():
        values = np.asarray(labels)[problem.known(y, task)]
        if is_number(values):
            deviations[task] = float(np.std(values, axis=0).mean())
    others = [1.0] if len(deviations) < len(y) else []  # a cross-entropy is of size 1
    sizes = [*deviations.values(), *others]
    if len(sizes) > 1 and min(sizes) > 0 and (max(sizes) / min(sizes)) ** 2 >= APART:
        listed = ", ".join(f"'{task}' {deviation:.3g}" for task, deviation in deviations.items())
        yield Finding(
            "scales",
            f"Labels differ in scale (standard deviations: {listed}), squared errors by a factor of "
            f"{(max(sizes) / min(sizes)) ** 2:.2g}: the largest takes the update. "
            "Standardize them: `standardize=True`.",
            tuple(deviations),
            {"deviations": deviations},
        )


def _relations(problem: Problem, y: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    missing = problem.compile_options.get("missing")
    try:
        relations = task_relations(y, missing="nan" if missing is None else missing)
    except ValueError:
        return  # such as tokens or images, of which this says nothing
    related = []
    for i, task in enumerate(relations.tasks):
        for other in relations.tasks[:i]:
            strength = relations.association.of(other, task)
            if strength >= RELATED:
                related.append((strength, other, task))
    for strength, other, task in sorted(related, reverse=True)[:5]:
        yield Finding(
            "related labels",
            f"Labels of '{other}' and '{task}' go together (association {strength:.2f} of 1).",
            (other, task),
            {"association": strength},
        )


def _overlaps(problem: Problem) -> Iterator[Finding]:
    seen = _rows(problem.all_training[0])
    for argument in ("validation", "test"):
        if argument == "validation" and problem.held_out:
            continue
        data = getattr(problem, argument)
        count = int(np.isin(_rows(data[0]), seen).sum())
        if count:
            yield Finding(
                "overlap",
                f"{count:,} of the {size_of(data):,} {argument} examples have the inputs of a training example: "
                "what they say of new examples is too good.",
                (),
                {argument: count},
            )


def _rows(x: Structure) -> np.ndarray:
    """A checksum for each example's inputs."""
    arrays = [np.asarray(array) for array in keras.tree.flatten(x)]
    found = np.zeros(len(arrays[0]), "u8")
    for place, array in enumerate(arrays):
        flat = np.ascontiguousarray(array.reshape(len(array), -1))
        sums = np.array(
            [zlib.crc32(repr(row.tolist()).encode() if flat.dtype.hasobject else row) for row in flat], "u8"
        )
        found = found * np.uint64(1099511628211) + sums + np.uint64(place)
    return found
