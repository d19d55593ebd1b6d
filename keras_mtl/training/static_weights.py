"""Static task weights: numbers, or the user's own variables."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class StaticWeights:
    """The static weights of K tasks, of which each step reads the newest.

    Args:
        values: List of K numbers or scalar variables, of Keras or the backend.
            Variables stay the user's own: what a callback assigns to one counts
            from the next step on.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        self._given = {k: value for k, value in enumerate(values) if hasattr(value, "assign")}
        self._on_host = _as_floats(values)  # so that a look at them waits for no device
        self._numbers = keras.Variable(self._on_host, trainable=False, dtype="float32", name="static_weights")

    @property
    def state(self) -> list[keras.Variable]:
        """The variables that a step has to be handed, where it does not read any variable as it is."""
        return [] if core().READS_VARIABLES else [self._numbers]

    @property
    def value(self) -> Tensor:
        """Float tensor of shape `(K,)`."""
        if not self._given or not core().READS_VARIABLES:
            return self._numbers.value
        values = ops.unstack(self._numbers.value)
        for k, variable in self._given.items():
            values[k] = ops.cast(ops.convert_to_tensor(variable), "float32")
        return ops.stack(values)

    def numpy(self) -> np.ndarray:
        """The weights as they are now, as an array of shape `(K,)`."""
        values = self._on_host.copy()
        values[list(self._given)] = _as_floats(self._given.values())
        return values

    def follow(self, model: MultiTaskModel) -> None:
        """Has the next step see what variables of the user's are now, where it does not read them itself."""
        if not self._given or core().READS_VARIABLES:
            return
        values = self.numpy()
        if not np.array_equal(values, self._on_host):
            core().synchronize(model)
            self._on_host = values
            self._numbers.assign(values)

    def assign(self, values: Iterable[Any], model: MultiTaskModel) -> None:
        """Sets all weights, the variables that were given among them."""
        core().synchronize(model)
        self._on_host = values = _as_floats(values)
        self._numbers.assign(values)
        for k, variable in self._given.items():
            variable.assign(values[k])


def core() -> ModuleType:
    """The backend's core, which comes with the first step: its import takes its time."""
    from keras_mtl.training import backends

    return backends.core


def _as_floats(values: Iterable[Any]) -> np.ndarray:
    return np.array([float(ops.convert_to_numpy(ops.convert_to_tensor(value))) for value in values], "float32")
