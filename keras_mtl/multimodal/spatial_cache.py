"""The spatial cache: features of all positions in space and time."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class SpatialCache(layers.Layer):
    """Makes a spatial cache: the features of all times and places, projected.

    Args:
        name: String. Name of the layer.

    Call arguments:
        inputs: Tensor of shape `(batch, t, s, features)`.
        mask: Boolean tensor of shape `(batch, t)`, or `None`.

    Returns:
        Tensor of shape `(batch, t s, features)`, time by time.

    Example:

    >>> keras_mtl.multimodal.SpatialCache()(np.ones((1, 5, 9, 8))).shape
    TensorShape([1, 45, 8])

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.projection = layers.Dense(input_shape[-1], dtype=self.dtype_policy, name="projection")
        self.projection.build(input_shape)

    def call(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        batch, time = ops.shape(inputs)[:2]
        return self.projection(ops.reshape(inputs, (batch, time * inputs.shape[2], inputs.shape[3])))

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        return None if previous_mask is None else ops.repeat(previous_mask, inputs.shape[2], axis=1)

    def compute_output_spec(self, inputs: Inputs, mask: Tensor | None = None) -> keras.KerasTensor:
        del mask
        batch, time, space, width = inputs.shape
        return keras.KerasTensor((batch, None if time is None else time * space, width), dtype=self.compute_dtype)
