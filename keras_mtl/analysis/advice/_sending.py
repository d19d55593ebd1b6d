"""What workers are sent: a problem as a file, large arrays beside it."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem

_LARGE = 2**16  # bytes of an array that goes by a file


class Pickler(pickle.Pickler):
    """Writes large arrays into files of their own, and Keras' objects with their classes.

    Args:
        file: Binary file.
        folder: Path of a folder for arrays, or `None`: they are left out.
    """

    def __init__(self, file: IO[bytes], folder: Path | None) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder, self._written = folder, {}

    def persistent_id(self, thing: object) -> str | None:
        if not isinstance(thing, np.ndarray) or thing.dtype.hasobject or thing.nbytes < _LARGE:
            return None
        if id(thing) not in self._written:
            path = "" if self._folder is None else str(self._folder / f"{len(self._written)}.npy")
            if path:
                np.save(path, thing)
            self._written[id(thing)] = path, thing  # held, so that no other has its id
        return self._written[id(thing)][0]

    def reducer_override(self, thing: object) -> tuple[Any, ...] | types.NotImplementedType:
        if isinstance(thing, (types.FunctionType, type)) and thing.__module__ == "__main__":
            main = sys.modules["__main__"]
            if getattr(main, "__file__", None) is None and getattr(main, "__spec__", None) is None:
                raise pickle.PicklingError(f"{thing.__qualname__!r} is not of a module")
        if isinstance(thing, keras.Loss):  # whose configs leave out options
            return _loss, (type(thing), dict(vars(thing)))
        if isinstance(thing, (keras.Layer, keras.Metric, keras.Optimizer)):
            return _made, (type(thing), *thing.__reduce__())
        return NotImplemented


class Unpickler(pickle.Unpickler):
    """Reads what `Pickler` wrote, large arrays as memory-mapped files."""

    def persistent_load(self, path: str) -> np.ndarray:
        return np.load(path, mmap_mode="r")


def _loss(cls: type[keras.Loss], state: Mapping[str, Any]) -> keras.Loss:
    loss = object.__new__(cls)
    vars(loss).update(state)
    return loss


def _made(cls: type, function: Callable[..., Any], arguments: Sequence[Any]) -> object:
    """An object of Keras of a class that need not be registered."""
    with keras.saving.custom_object_scope({cls.__name__: cls}):
        return function(*arguments)


def check_sendable(problem: Problem) -> None:
    """Raises, by the argument's name, where something cannot be sent to a process."""
    parts = {"inputs": problem.inputs, "directions": problem.directions}
    parts |= {f"stages[{place}]": stack for place, stack in enumerate(problem.stages)}
    parts |= {f"heads['{task}']": stack for task, stack in problem.heads.items()}
    for name, value in problem.compile_options.items():
        if isinstance(value, dict):
            parts |= {f"compile['{name}']['{key}']": item for key, item in value.items()}
        else:
            parts[f"compile['{name}']"] = value
    for name, value in parts.items():
        try:
            with open(os.devnull, "wb") as nowhere:
                Pickler(nowhere, None).dump(value)
        except Exception as error:
            raise ValueError(
                f"`{name}` should be something that can be sent to other processes, since there are `workers`: "
                "functions and classes are those of a module or of the script that is run, by `def` and `class`. "
                f"Received: {value!r} ({error})"
            ) from error
