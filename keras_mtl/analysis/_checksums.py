"""Cheap checksums of arrays and data sets: what is small is read as a whole, of what is large a part."""

from __future__ import annotations

import math
import sys
import types
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_mtl._types import Data, Structure, Tensor

_WHOLE, _SUMMED, _ROWS, _PIECE = 2**24, 2**28, 512, 2**22  # bytes, bytes, rows, bytes
_OBJECTS = 2**17
_PEEKED, _COUNTED = 512, 2**26  # batches, bytes


def array_parts(value: Structure, whole: int = _WHOLE, piece: int = _PIECE) -> list[str] | None:
    """What tells an array from others.

    Small arrays are read as a whole. Of larger ones, the first and last rows
    and rows at equal distances are, and of those of up to 256 MiB the sum of
    all bits; others may differ elsewhere and be taken for the same.

    Args:
        value: Anything.
        whole: Integer. The most bytes that are read as a whole. Defaults to
            16 MiB.
        piece: Integer. The most bytes of a part of larger ones. Defaults to
            4 MiB.

    Returns:
        List of strings, or `None` where it is no array.
    """
    if hasattr(value, "columns") and hasattr(value, "to_numpy"):  # a data frame
        return [str(list(value.columns)), *(str(part) for c in value.columns for part in array_parts(value[c]))]
    if not (hasattr(value, "shape") and hasattr(value, "dtype")) or keras.utils.is_keras_tensor(value):
        return None
    for parts in (("indices", "values", "dense_shape"), ("flat_values", "nested_row_splits")):  # sparse, ragged
        if all(hasattr(value, part) for part in parts):
            arrays = keras.tree.flatten([getattr(value, part) for part in parts])
            return [part for array in arrays for part in array_parts(array, whole, piece)]
    if keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        value = _on_host(value)
    elif not isinstance(value, np.ndarray):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and (value.dtype.hasobject or value.dtype.kind in "TV"):
        some = value.reshape(-1)[:: max(1, value.size // _OBJECTS)].tolist()
        return [f"{value.dtype} {value.shape}", str(zlib.crc32(repr(some).encode("utf-8", "surrogatepass")))]
    dtype = keras.backend.standardize_dtype(value.dtype) if not isinstance(value, np.ndarray) else str(value.dtype)
    about = f"{dtype} {tuple(value.shape)}"
    size = math.prod(value.shape) * np.dtype(dtype).itemsize
    if size <= whole:
        return [about, str(_crc(value))]
    length = value.shape[0]
    rows = max(1, min(_ROWS, piece // max(1, size // length)))
    parts = (value[:rows], value[-rows:], value[:: max(1, length // rows)][:rows])
    added = isinstance(value, np.ndarray) and not isinstance(value, np.memmap) and size <= _SUMMED
    return [about, *(str(_crc(part)) for part in parts), str(_sum_of_bits(value) if added else "")]


def _on_host(value: Tensor) -> Tensor:
    """A tensor or variable as a NumPy array, where that is possible not a copy; a huge one as it is."""
    value = value.value if isinstance(value, keras.Variable) else value
    tf = sys.modules.get("tensorflow")
    if tf is not None and isinstance(value, tf.Variable):
        value = tf.convert_to_tensor(value)
    dtype = keras.backend.standardize_dtype(value.dtype)
    if dtype != "string" and math.prod(value.shape) * np.dtype(dtype).itemsize > _SUMMED:
        return value  # of which parts are copied
    try:
        return np.asarray(memoryview(value))
    except (TypeError, ValueError, RuntimeError):  # not every backend or dtype lends its memory
        return keras.ops.convert_to_numpy(value)


def data_set_parts(value: object, not_read: Callable[[object], None]) -> list[Any] | None:
    """What tells a `tf.data.Dataset`, a mixture or a generator from others.

    Of a data set the first batches are read, up to 512 and 16 MiB of them,
    without those of sources that could be read only once. Where they come in
    another order each time, the examples of small data sets are added up.

    Args:
        value: Anything.
        not_read: Function, called with a string or the object where its
            content is not known.

    Returns:
        List, or `None` where it is something else.
    """
    if isinstance(value, types.GeneratorType):
        not_read("a generator")
        return ["generator"]
    tf = sys.modules.get("tensorflow")
    if tf is None or not isinstance(value, tf.data.Dataset):
        return None
    from keras_mtl.data.mixture import Mixture

    if isinstance(value, Mixture):  # it goes on where it was stopped, so a look would be an epoch's start
        parts = [value.tasks, value.steps, value.batch_sizes, value._once, value._batch, value._datasets]
        sampler = value.sampler
        return [*parts, sampler.get_config() if hasattr(sampler, "get_config") else type(sampler)]
    size = int(value.cardinality())
    about = [repr(value.element_spec), size]
    if size == tf.data.UNKNOWN_CARDINALITY and _has_state(tf, value):
        not_read("a data set made by Python functions")
        return about
    first, second = (_peek(value) for _ in range(2))
    if [crc for crc, _ in first] == [crc for crc, _ in second]:
        return [*about, [crc for crc, _ in first]]
    if 0 < size * max((count for _, count in first), default=0) <= _COUNTED:
        first, second = (_sum_of_examples(value) for _ in range(2))
        if first == second:
            return [*about, first]
    not_read("a data set that is drawn anew each time")
    return about


def _crc(array: Tensor) -> int:
    if not isinstance(array, np.ndarray):
        array = keras.ops.convert_to_numpy(array)
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view("u1").data)


def _sum_of_bits(array: np.ndarray) -> int:
    array = np.ascontiguousarray(array).reshape(-1)
    return int(array.view("u8" if array.nbytes % 8 == 0 else "u1").sum(dtype="u8"))


def _has_state(tf: ModuleType, data: Data) -> bool:
    """Whether a data set holds more than TensorFlow can write down: a generator, a Python function."""
    try:
        variant = tf.data.experimental.to_variant(data)
        tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=2)  # 2: an error
    except tf.errors.FailedPreconditionError:
        return True
    return False


def _peek(data: Data) -> list[Any]:
    """Checksum and bytes of each of the first batches: two at least, and no more than what is read of arrays."""
    found, total = [], 0
    for batch in data.take(_PEEKED):
        arrays = _arrays_of(batch)
        crc = [part for array in arrays for part in array_parts(array)]
        found.append((" ".join(crc), sum(array.nbytes for array in arrays)))
        total += found[-1][1]
        if total > _WHOLE and len(found) > 1:
            break
    return found


def _arrays_of(batch: Structure) -> list[np.ndarray]:
    import tensorflow as tf

    return [np.asarray(tensor) for tensor in tf.nest.flatten(batch, expand_composites=True)]


def _sum_of_examples(data: Data) -> list[int]:
    """A checksum of the examples of all batches that does not depend on their order."""
    total, count = 0, 0
    for batch in data:
        arrays = _arrays_of(batch)
        sizes = {len(array) if array.ndim else -1 for array in arrays}
        rows = sizes.pop() if len(sizes) == 1 and -1 not in sizes else 1
        hashes = np.zeros(rows, "u8")
        for place, array in enumerate(arrays):
            if array.dtype.hasobject:
                words = np.array([zlib.crc32(repr(row).encode()) for row in array.reshape(rows, -1).tolist()], "u8")
                words = words[:, None]
            else:
                bits = np.ascontiguousarray(array).reshape(rows, -1).view("u1")
                words = np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view("u8")
            factors = np.random.default_rng(place).integers(1, 2**63, words.shape[1], dtype="u8") * 2 + 1
            hashes = (hashes * np.uint64(1099511628211)) ^ (words * factors).sum(axis=1, dtype="u8")
        mixed = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        total, count = (total + int(mixed.sum(dtype="u8"))) % 2**64, count + rows
    return [total, count]
