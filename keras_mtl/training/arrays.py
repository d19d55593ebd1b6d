"""Labels and weights in the containers that people have them in, as dicts of arrays keyed by task."""

from typing import Any

import keras
import numpy as np


def arrays_of(x, y, sample_weight, compiled):
    """Labels and weights as Keras wants them, and a look at what can be seen before the first step.

    Args:
        x: Inputs, as `fit` takes them.
        y: Labels, same.
        sample_weight: Weights, same.
        compiled: The model's `Compiled`.

    Returns:
        Tuple of labels and weights from `by_task`, with an entry in the
        weights for every task in the labels.
    """
    if compiled.inputs_tracker is not None:
        check_finite(x)
    y, sample_weight = by_task(y, "y", compiled), by_task(sample_weight, "sample_weight", compiled)
    check_lengths(x, y, sample_weight)
    compiled.check_columns(y)
    if isinstance(y, dict) and isinstance(sample_weight, dict):
        unknown = [key for key in sample_weight if key not in compiled.outputs]
        if unknown:
            raise ValueError(f"The keys of `sample_weight` should be tasks: {compiled.outputs}. Received: {unknown}")
        sample_weight = {key: sample_weight.get(key) for key in y}
    return y, sample_weight


def by_task(given, argument, compiled):
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


def is_frame(data):
    """Whether data is a table with named columns, as pandas' frames are."""
    return hasattr(data, "columns") and hasattr(data, "to_numpy")


def as_array(values, task, argument, missing):
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


def _without_index(values):
    return np.asarray(values) if hasattr(values, "to_numpy") else values


def _is_absent(value):
    # NaN and pandas' NA and NaT are the values that are not plainly equal to themselves.
    if value is None:
        return True
    try:
        return not bool(value == value)
    except TypeError:  # NA has no truth value
        return True


def check_lengths(x, y, sample_weight):
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


def _length(array):
    """Number of examples of an array; `None` of what is none."""
    shape: Any = getattr(array, "shape", ())
    try:
        return int(shape[0])
    except (TypeError, ValueError, IndexError):  # of unknown rank or size
        return None


def check_finite(x):
    """Raises where an array of inputs has NaN or infinities.

    Args:
        x: Inputs, as `fit` takes them. What is no NumPy array is looked at in
            the step.
    """
    for array in keras.tree.flatten(x):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        # A sum is quick, and is not finite where an entry is not.
        with np.errstate(invalid="ignore", over="ignore"):
            if np.isfinite(array.sum(dtype="float64")):
                continue
        nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
        if nan or infinite:
            found = [f"{nan} NaN"] * bool(nan) + [f"{infinite} infinite entries"] * bool(infinite)
            found = " and ".join(found)
            raise ValueError(
                f"`x` should be finite. Received: an array of shape {array.shape} with {found}. {LET_PASS}"
            )


LET_PASS = (
    "Labels may be missing, inputs may not, unless layers of the model fill or clip them: "
    "`compile(check_inputs=False)` lets them pass."
)
