"""The examples that `advise` is given, as arrays in memory."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_mtl._types import Data, Inputs, Tasks

_TAKEN = (
    "a tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or a `tf.data.Dataset` or `keras.utils.PyDataset` of "
    "batches of these, with `y` a dict from task to labels"
)


def arrays_of(data: Data, argument: str, tasks: Tasks, inputs: Inputs) -> tuple[Any, ...]:
    """Inputs, labels and weights as arrays. A data set is read once, and held in memory.

    Args:
        data: What the user gave.
        argument: String. Its name, for messages.
        tasks: Tuple of K names.
        inputs: The model's inputs.

    Returns:
        Tuple `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        ValueError: If it is nothing of the kind, has no end, or does not fit.
    """
    if hasattr(data, "as_numpy_iterator") or isinstance(data, keras.utils.PyDataset):
        data = _joined([_checked(batch, argument, tasks) for batch in _batches(data, argument)], argument, inputs)
    else:
        data = _checked(data, argument, tasks)
    x, y, weight = (*data, None)[:3]
    arrays = {f"x[{place}]": part for place, part in enumerate(keras.tree.flatten(x))}
    arrays.update({f"y['{task}']": labels for task, labels in y.items()})
    sizes = {name: len(array) if np.ndim(array) else 0 for name, array in arrays.items()}
    if len(set(sizes.values())) != 1 or not min(sizes.values()):
        raise ValueError(f"`{argument}` should hold as many labels as inputs. Received: lengths {sizes}")
    x = keras.tree.map_structure(np.asarray, x)
    y = {task: np.asarray(labels) for task, labels in y.items()}
    return (x, y) if weight is None else (x, y, keras.tree.map_structure(np.asarray, weight))


def take(data: Data, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Some examples of `(x, y)` or `(x, y, sample_weight)`."""
    return tuple(keras.tree.map_structure(lambda array: None if array is None else array[rows], part) for part in data)


def size_of(data: Data) -> int:
    """Number of examples."""
    return len(next(iter(data[1].values())))


def is_number(labels: np.ndarray) -> bool:
    """Whether labels are numbers, not classes."""
    return labels.dtype.kind == "f" and not np.isin(labels, (0.0, 1.0)).all()


def _checked(data: Data, argument: str, tasks: Tasks) -> Data:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3) or not isinstance(data[1], dict):
        more = f" of {len(data)} entries" if isinstance(data, (tuple, list)) else ""
        raise ValueError(f"`{argument}` should be {_TAKEN}. Received: a {type(data).__name__}{more}")
    absent = [task for task in tasks if task not in data[1]]
    if absent:
        raise ValueError(f"`{argument}` should have labels of every task. Received: none of {absent}")
    return tuple(data)


def _batches(data: Data, argument: str) -> list[Data]:
    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        if count is None:
            raise ValueError(_endless(argument, "a `PyDataset` whose `num_batches` is None"))
        found = [data[place] for place in range(count)]
    else:
        if int(data.cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
            raise ValueError(_endless(argument, "a data set that repeats for ever"))
        found = list(data.as_numpy_iterator())
    if not found:
        raise ValueError(f"`{argument}` should have batches. Received: an empty data set")
    return found


def _endless(argument: str, what: str) -> str:
    return (
        f"`{argument}` should have an end: its examples are held in memory, split and drawn anew. Received: {what}; "
        "give it without `repeat()`, or as much as counts with `take(batches)`"
    )


def _joined(batches: list[Data], argument: str, inputs: Inputs) -> Data:
    """Batches one after the other."""
    first = keras.tree.flatten(batches[0][0])
    ranks = [len(tensor.shape) for tensor in keras.tree.flatten(inputs)]
    if [np.ndim(part) for part in first] == [rank - 1 for rank in ranks] and ranks:
        raise ValueError(
            f"`{argument}` should be a data set of batches, as `fit` takes it. Received: one of single examples; give "
            f"`{argument}.batch(32)`"
        )
    try:
        return keras.tree.map_structure(lambda *parts: np.concatenate([np.asarray(p) for p in parts]), *batches)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"`{argument}` should have batches of one structure, whose examples have one shape. Received: {error}"
        ) from error
