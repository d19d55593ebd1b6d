"""The part of a data set that belongs to some of the tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_mtl._types import Data, Structure, Tasks


def labels_of_tasks(data: Data, tasks: Tasks) -> Data:
    """The same data with the labels and sample weights of some tasks alone.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`
            or `PyDataset` of such tuples, or `None`.
        tasks: Collection of tasks. Those without labels are left out.

    Returns:
        As `data`.
    """

    def select(x: Structure, *others: Any) -> tuple[Any, ...]:
        return (x, *({t: o[t] for t in tasks if t in o} if isinstance(o, dict) else o for o in others))

    return selected(data, select)


def selected(data: Data, select: Callable[..., tuple[Any, ...]]) -> Data:
    """Data of which every tuple goes through a function.

    Args:
        data: A tuple, a `tf.data.Dataset` or `PyDataset` of tuples, or `None`.
        select: Function from the parts of a tuple to a tuple.

    Returns:
        As `data`.

    Raises:
        ValueError: If it is something else, such as a generator, which could
            be read for one training only.
    """
    if data is None:
        return None
    if isinstance(data, (tuple, list)):
        return select(*data)
    if isinstance(data, keras.utils.PyDataset):
        return _Selected(data, select)
    if not hasattr(data, "map"):
        raise ValueError(
            "`data` should be a tuple of arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`, which can be read "
            f"for each training anew. Received: a {type(data).__name__}"
        )
    return data.map(select)


class _Selected(keras.utils.PyDataset):
    """A `PyDataset` whose batches are cut to some tasks."""

    def __init__(self, data: keras.utils.PyDataset, select: Callable[..., tuple[Any, ...]]) -> None:
        options = ("workers", "use_multiprocessing", "max_queue_size")
        super().__init__(**{name: getattr(data, name) for name in options})
        self._data, self._select = data, select

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return self._select(*self._data[index])

    @property
    def num_batches(self) -> int | None:
        return self._data.num_batches

    def on_epoch_begin(self) -> None:
        self._data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._data.on_epoch_end()
