"""Counting missing labels before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_mtl._types import Structure, Tasks, Tensor
from keras_mtl.data._labelled import Labelled, check_same_examples
from keras_mtl.data.label_report import MissingReport

if TYPE_CHECKING:
    import tensorflow as tf


def missing_report(
    y: Mapping[str, npt.ArrayLike] | tf.data.Dataset,
    *,
    missing: float | str | Mapping[str, float | str] | None = None,
    sample_weight: Structure | None = None,
    sample_space: Mapping[str, str] | None = None,
    tasks: Tasks | None = None,
    batch_size: int = 32,
    steps: int | None = None,
) -> MissingReport:
    """Counts the labels that each task has, and says what may go wrong.

    Args:
        y: Dict from task to an array of labels, as `fit` takes it, or a
            `tf.data.Dataset` of batches `y`, `(x, y)` or
            `(x, y, sample_weight)`, which is read once.
        missing: As in `compile`. Defaults to `None`.
        sample_weight: As in `fit`, for arrays. Where it is 0, a label is not
            known, so masks are given here. Defaults to `None`.
        sample_space: As in `compile`. Defaults to `None`.
        tasks: Collection of tasks that should have labels. Defaults to `None`:
            those in `y`.
        batch_size: Integer. For arrays, the size of the batches that you mean
            to train with. Defaults to 32.
        steps: Integer. How many batches of a data set to read. Defaults to
            `None`: all.

    Returns:
        A `keras_mtl.data.MissingReport`. Print it.

    Raises:
        ValueError: If `y` is neither a dict nor a data set of dicts, the tasks'
            labels differ in length, an option names an unknown task, or a data
            set is empty, or endless and `steps` is not given.

    Example:

    >>> y = {"price": np.array([1.0, np.nan, 2.0, np.nan]), "kind": np.array([-1, -1, 2, 0])}
    >>> report = keras_mtl.data.missing_report(y, missing={"price": "nan", "kind": -1})
    >>> report.rates
    {'price': 0.5, 'kind': 0.5}
    >>> report.overlap  # of the examples with a price, half have a kind
    array([[1. , 0.5],
           [0.5, 1. ]])
    >>> report.warnings
    ['1 of 4 examples (25 %) have no label of any task: they are read and not used.']
    """
    read = y if hasattr(y, "element_spec") else None
    if read is None and not isinstance(y, dict):
        raise ValueError(
            f"`y` should be a dict from task to labels, or a `tf.data.Dataset` of batches. Received: {type(y).__name__}"
        )
    batches = _slices(y, sample_weight) if read is None else _batches(read, steps)
    counts = None
    for labels, weight in batches:
        if not isinstance(labels, dict):
            raise ValueError(f"Labels should be a dict keyed by task. Received: {type(labels).__name__}")
        if counts is None:
            known = list(dict.fromkeys([*labels, *(tasks or ())]))
            counts = Labelled(_of_tasks(missing, "missing", known), _of_tasks(sample_space, "sample_space", known))
        counts.add(labels, weight)
    if counts is None:
        raise ValueError("`y` should have batches. Received: an empty data set")
    return MissingReport(counts, tasks, None if read is not None else batch_size)


def _slices(
    y: Mapping[str, Any], sample_weight: Tensor, size: int = 8192
) -> Iterator[tuple[dict[str, np.ndarray], dict[Any, Any]]]:
    """Arrays in parts, so that what is counted needs little memory."""
    y = {task: np.asarray(labels) for task, labels in y.items() if labels is not None}
    check_same_examples(y)
    if isinstance(sample_weight, dict):
        weights = {task: np.asarray(weight) for task, weight in sample_weight.items() if weight is not None}
    else:
        weights = {} if sample_weight is None else dict.fromkeys(y, np.asarray(sample_weight))
    for start in range(0, len(next(iter(y.values()))), size):
        part = slice(start, start + size)
        yield {t: labels[part] for t, labels in y.items()}, {t: weight[part] for t, weight in weights.items()}


def _batches(
    dataset: Mapping[str, npt.ArrayLike] | tf.data.Dataset | None, steps: int | None
) -> Iterator[tuple[Any, Any]]:
    cardinality = int(dataset.cardinality())
    if steps is None and cardinality == -1:
        raise ValueError("`steps` should be given for a data set without end. Received: steps=None")
    batches = dataset if steps is None else dataset.take(steps)
    for element in batches.as_numpy_iterator():
        parts = element if isinstance(element, tuple) else (None, element)
        yield parts[1], parts[2] if len(parts) > 2 else None


def _of_tasks(given: Structure, argument: str, tasks: Sequence[str]) -> dict[str, Any]:
    given = given if isinstance(given, dict) else {} if given is None else dict.fromkeys(tasks, given)
    names = {*given, *(given.values() if argument == "sample_space" else ())}
    unknown = sorted(name for name in names if name not in tasks)
    if unknown:
        raise ValueError(f"`{argument}` should name tasks of {tasks}. Received: {unknown}")
    if argument == "sample_space":
        return given
    nan = (float, np.floating)
    return {task: "nan" if isinstance(value, nan) and np.isnan(value) else value for task, value in given.items()}
