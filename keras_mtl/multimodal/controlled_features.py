"""Features with a control vector appended to each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class ControlledFeatures(layers.Layer):
    """Joins a domain's control vector to features and projects them back.

    `W [x; c] + b`, at each time and place.

    Args:
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features of shape `(batch, t, s, features)`, or
            `(batch, t, features)` where there is no space, and a control
            vector of shape `(batch, c)`.

    Returns:
        Tensor of shape `(batch, t, s, features)`, with 1 for `s` where there
        is no space.

    Raises:
        ValueError: If the features have another number of axes.

    Example:

    >>> keras_mtl.multimodal.ControlledFeatures()([np.ones((2, 5, 8)), np.ones((2, 4))]).shape
    TensorShape([2, 5, 1, 8])

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        features, control = input_shape
        if len(features) not in (3, 4):
            raise ValueError(
                "What a peripheral gives should have shape (batch, time, space, features) or (batch, time, features). "
                f"Received: shape {tuple(features)}"
            )
        self.projection = layers.Dense(features[-1], dtype=self.dtype_policy, name="projection")
        self.projection.build((features[-1] + control[-1],))

    def call(self, inputs: Sequence[Tensor], mask: Sequence[Tensor | None] | None = None) -> Tensor:
        del mask  # goes on with the features
        features, control = inputs
        if len(features.shape) == 3:
            features = ops.expand_dims(features, axis=2)
        control = ops.broadcast_to(control[:, None, None, :], (*ops.shape(features)[:3], control.shape[-1]))
        return self.projection(ops.concatenate([features, control], axis=-1))

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        del inputs
        return None if previous_mask is None else previous_mask[0]

    def compute_output_spec(self, inputs: Sequence[keras.KerasTensor], mask: Tensor | None = None) -> keras.KerasTensor:
        del mask
        batch, time, *space, width = inputs[0].shape
        return keras.KerasTensor((batch, time, *(space or [1]), width), dtype=self.compute_dtype)
