"""A task's attention on the features of a shared trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers._shapes import first_mask


@keras.saving.register_keras_serializable(package="keras_mtl")
class AttentionMask(layers.Layer):
    """A task's mask from a stage's first feature and the task's previous one.

    `a = sigmoid(BN(W_2 relu(BN(W_1 [u; e]))))`, W being 1×1 convolutions: they
    act on the last axis, at every position alike.

    Args:
        channels: Integer. Size of the last axis of the mask, that of what it
            will multiply.
        hidden: Integer. Size of the hidden layer. Defaults to `None`: as
            `channels`.
        batch_normalization: Boolean. Defaults to `True`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List `[u]` or `[u, e]` of tensors that differ in their last
            axis only.
        training: Boolean. As batch normalization takes it.

    Returns:
        Tensor between 0 and 1 of the shape of `u`, with `channels` as its last
        axis.

    Example:

    >>> keras_mtl.layers.AttentionMask(3)([np.ones((1, 5, 5, 2)), np.ones((1, 5, 5, 8))]).shape
    TensorShape([1, 5, 5, 3])

    Reference:

    - S. Liu, E. Johns, A. Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        batch_normalization: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.channels = channels
        self.hidden = check_integer(hidden, "hidden", 1, or_none=True)
        self.batch_normalization = check_boolean(batch_normalization, "batch_normalization")
        self.supports_masking = True
        bias = not batch_normalization
        self.stack = [layers.Dense(self.hidden or channels, use_bias=bias, name="hidden")]
        self.stack += [layers.BatchNormalization(name="hidden_normalization")] if batch_normalization else []
        self.stack += [layers.ReLU(name="relu"), layers.Dense(channels, use_bias=bias, name="mask")]
        self.stack += [layers.BatchNormalization(name="mask_normalization")] if batch_normalization else []

    def build(self, input_shape: Sequence[Shape]) -> None:
        if len({tuple(shape)[1:-1] for shape in input_shape}) != 1:
            raise ValueError(
                f"What mask '{self.name}' takes should differ in the last axis only. "
                f"Received: shapes {[tuple(shape) for shape in input_shape]}"
            )
        shape = (*input_shape[0][:-1], sum(shape[-1] for shape in input_shape))
        for layer in self.stack:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: Sequence[Tensor], training: bool | None = None) -> Tensor:
        outputs = ops.concatenate(inputs, axis=-1)
        for layer in self.stack:
            normalizes = isinstance(layer, layers.BatchNormalization)
            outputs = layer(outputs, training=training) if normalizes else layer(outputs)
        return ops.sigmoid(outputs)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (*input_shape[0][:-1], self.channels)

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The mean mask, of shape `(channels,)`, over examples and positions."""
        return None if output is None else output.reshape(-1, self.channels).mean(axis=0)

    def get_config(self) -> dict[str, Any]:
        config = {
            "channels": self.channels,
            "hidden": self.hidden,
            "batch_normalization": self.batch_normalization,
        }
        return {**super().get_config(), **config}
