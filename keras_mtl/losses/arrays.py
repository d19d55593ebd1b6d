"""Labels and weights in the containers that people have them in, as dicts of arrays keyed by task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._types import Structure, Tensor

if TYPE_CHECKING:
    from keras_mtl.training.compiled import Compiled


def by_task(given: Structure, argument: str, compiled: Compiled) -> Structure:
    """Labels or sample weights as a dict from task to array, in which `None` stays `None`.

    Frames (of pandas, say) have a column for each task; lists are in the order
    of the outputs. What belongs to no task is left as it is, for the step.

    Args:
        given: `None`, an array, a frame, or a dict or list of arrays.
        argument: String. `"y"` or `"sample_weight"`, for messages.
        compiled: The model's `Compiled`.

    Returns:
        A dict, or an array: labels of a model with one output, or weights for
        all tasks.
    """
    tasks = compiled.outputs
    if is_frame(given):
        known = [name for name in given.columns if name in (*tasks, *compiled.columns)]
        if len(tasks) == 1 and not known:
            return np.asarray(given)
        given = {name: given[name] for name in given.columns}
    if isinstance(given, (list, tuple)):
        if len(given) == len(tasks) and all(value is None or np.ndim(value) for value in given):
            given = dict(zip(tasks, given, strict=True))
        elif len(tasks) > 1:
            raise ValueError(
                f"`{argument}` should be a dict keyed by task, or a list in the order of the tasks {list(tasks)}: "
                f"`{argument}={{{', '.join(f'{task!r}: ...' for task in tasks)}}}`. "
                f"Received: a {type(given).__name__} of {len(given)} entries"
            )
    if not isinstance(given, dict):
        return given if given is None else as_array(given, tasks[0], argument, compiled.missing)
    return {
        key: as_array(value, key, argument, compiled.missing) if key in tasks else _without_index(value)
        for key, value in given.items()
    }


def is_frame(data: Mapping[str, Tensor | np.ndarray] | None) -> bool:
    """Whether data is a table with named columns, as pandas' frames are."""
    return hasattr(data, "columns") and hasattr(data, "to_numpy")


def as_array(values: Structure, task: str, argument: str, missing: Mapping[str, Any] | None) -> Tensor:
    """One task's labels or weights as an array of numbers.

    Entries that pandas or Python call missing, `NA` and `None`, become the
    label that `missing` says is none.
    """
    dtype = getattr(values, "dtype", None)
    plain = isinstance(dtype, np.dtype) and dtype.kind in "biuf"
    if plain or not (hasattr(values, "to_numpy") or isinstance(values, (list, tuple, np.ndarray))):
        return _without_index(values)
    objects = np.asarray(values, dtype=object)
    absent = np.vectorize(_is_absent, otypes=[bool])(objects)
    if absent.any():
        of_task = missing.get(task) if argument == "y" else None
        if of_task is None:
            remedy = f": `compile(missing={{'{task}': 'nan'}})` says that they are missing" if argument == "y" else ""
            raise ValueError(
                f"`{argument}` of task '{task}' should have no entries that are None or NA{remedy}. "
                f"Received: {int(absent.sum())} of {absent.size}"
            )
        objects = np.where(absent, np.nan if of_task == "nan" else of_task, objects)
    try:
        array = np.array(objects.tolist())
    except ValueError:  # of different lengths
        array = objects
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{argument}` of task '{task}' should be numbers; classes that have names become numbers by "
            f"`np.unique(labels, return_inverse=True)[1]`. Received: {objects.ravel()[:1].tolist()}, dtype {dtype}"
        )
    return array


def _without_index(values: Structure) -> Tensor:
    return np.asarray(values) if hasattr(values, "to_numpy") else values


def _is_absent(value: object) -> bool:
    # NaN and pandas' NA and NaT are the values that are not plainly equal to themselves.
    if value is None:
        return True
    try:
        return not bool(value == value)
    except TypeError:  # NA has no truth value
        return True


def check_lengths(x: Structure, y: Structure, sample_weight: Structure) -> None:
    """Raises, with the task's name, where arrays differ in their number of examples.

    Args:
        x: Inputs, as `fit` takes them.
        y: Labels, from `by_task`.
        sample_weight: Weights, from `by_task`.
    """
    sizes = {_length(array) for array in keras.tree.flatten(x)} - {None}
    if len(sizes) != 1:
        return  # no arrays, or such as Keras says itself that they do not fit
    (size,) = sizes
    for argument, given in (("y", y), ("sample_weight", sample_weight)):
        for task, array in (given if isinstance(given, dict) else {None: given}).items():
            length = _length(array)
            if length not in (None, size):
                of_task = f" of task '{task}'" if task else ""
                raise ValueError(
                    f"`{argument}`{of_task} should have as many examples as `x`, {size}. Received: {length}. "
                    "Make sure all arrays contain the same number of samples."
                )


def _length(array: object) -> int | None:
    """Number of examples of an array; `None` of what is none."""
    shape: Any = getattr(array, "shape", ())
    try:
        return int(shape[0])
    except (TypeError, ValueError, IndexError):  # of unknown rank or size
        return None
