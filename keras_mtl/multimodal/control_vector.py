"""A learned vector for a domain or a task."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class ControlVector(layers.Layer):
    """A learned vector, the same for each example.

    Args:
        units: Integer. Its length.
        name: String. Name of the layer.

    Call arguments:
        inputs: Any tensor of shape `(batch, ...)`, for the number of examples.

    Returns:
        Tensor of shape `(batch, units)`.

    Example:

    >>> keras_mtl.multimodal.ControlVector(16)(np.ones((3, 5))).shape
    TensorShape([3, 16])
    """

    def __init__(self, units: int, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.units = units
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.vector = self.add_weight(shape=(self.units,), initializer="random_normal", name="vector")

    def call(self, inputs: Tensor) -> Tensor:
        return ops.broadcast_to(ops.cast(self.vector, self.compute_dtype), (ops.shape(inputs)[0], self.units))

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        del inputs, previous_mask  # a mask is of what is looked at, not of the vector

    def compute_output_spec(self, inputs: Inputs) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], self.units), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
