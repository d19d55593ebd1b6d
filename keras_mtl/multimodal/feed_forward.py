"""The feed-forward part of a transformer's block."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class FeedForward(layers.Layer):
    """`LN(x + W_2 relu(W_1 x + b_1) + b_2)`, at each position.

    Args:
        hidden: Integer. Width of the hidden layer.
        dropout: Float. Of what joins the residual connection. Defaults to `0`.
        name: String. Name of the layer.

    Call arguments:
        inputs: Tensor of shape `(batch, t, features)`.
        training: Boolean. Whether `dropout` applies.

    Returns:
        Tensor of the same shape.

    Example:

    >>> keras_mtl.multimodal.FeedForward(hidden=16)(np.ones((1, 3, 8))).shape
    TensorShape([1, 3, 8])
    """

    def __init__(self, hidden: int, dropout: float = 0.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.hidden = hidden
        self.dropout = dropout
        self.supports_masking = True
        self.drop = layers.Dropout(dropout)

    def build(self, input_shape: Shape) -> None:
        self.inner = layers.Dense(self.hidden, activation="relu", dtype=self.dtype_policy, name="inner")
        self.outer = layers.Dense(input_shape[-1], dtype=self.dtype_policy, name="outer")
        self.normalization = layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="normalization")
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.hidden))
        self.normalization.build(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.normalization(inputs + self.drop(self.outer(self.inner(inputs)), training=training))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden, "dropout": self.dropout}
