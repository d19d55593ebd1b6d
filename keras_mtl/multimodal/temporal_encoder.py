"""The temporal cache: features encoded over time."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.multimodal.cache_attention import CacheAttention
from keras_mtl.multimodal.feed_forward import FeedForward


@keras.saving.register_keras_serializable(package="keras_mtl")
class TemporalEncoder(layers.Layer):
    """Makes a temporal cache of features over time and space.

    Their means over space, projected, with sinusoids of the time, go through
    transformer blocks that normalize after each part.

    Args:
        blocks: Integer. Number of blocks.
        num_heads: Integer. Attention heads of a block.
        hidden: Integer. Width of a block's feed-forward part.
        dropout: Float. Defaults to `0`.
        name: String. Name of the layer.

    Call arguments:
        inputs: Tensor of shape `(batch, t, s, features)`.
        mask: Boolean tensor of shape `(batch, t)`, or `None`.
        training: Boolean. Whether `dropout` applies.

    Returns:
        Tensor of shape `(batch, t, features)`.

    Example:

    >>> keras_mtl.multimodal.TemporalEncoder(blocks=1, num_heads=2, hidden=16)(np.ones((1, 5, 9, 8))).shape
    TensorShape([1, 5, 8])

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.
    """

    def __init__(
        self, blocks: int, num_heads: int, hidden: int, dropout: float = 0.0, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.blocks, self.num_heads, self.hidden, self.dropout = blocks, num_heads, hidden, dropout
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        batch, time, _, features = input_shape
        cache = (batch, time, features)
        policy = {"dtype": self.dtype_policy}
        self.projection = layers.Dense(features, name="projection", **policy)
        self.projection.build(cache)
        self.attentions, self.feed_forwards = [], []
        for i in range(1, self.blocks + 1):
            attention = CacheAttention(self.num_heads, dropout=self.dropout, name=f"attention_{i}", **policy)
            feed_forward = FeedForward(self.hidden, self.dropout, name=f"feed_forward_{i}", **policy)
            attention.build([cache, cache])
            feed_forward.build(cache)
            self.attentions.append(attention)
            self.feed_forwards.append(feed_forward)

    def call(self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        cache = self.projection(ops.mean(inputs, axis=2))
        cache = cache + sinusoids(cache)
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            cache, _ = attention([cache, cache], mask=[mask, mask], training=training)
            cache = feed_forward(cache, training=training)
        return cache

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, time, _, features = input_shape
        return (batch, time, features)

    def get_config(self) -> dict[str, Any]:
        config = {"blocks": self.blocks, "num_heads": self.num_heads, "hidden": self.hidden, "dropout": self.dropout}
        return {**super().get_config(), **config}


def sinusoids(x: Tensor) -> Tensor:
    """Sines and cosines of the places along the second axis, from 1.

    Args:
        x: Tensor of shape `(batch, t, features)`, to which they can be added.

    Returns:
        Tensor of shape `(1, t, features)`.
    """
    half = (x.shape[-1] + 1) // 2
    rates = np.exp(-np.log(1e4) * np.arange(half) / half).astype("float32")
    places = ops.cast(ops.arange(ops.shape(x)[1]), "float32") + 1.0
    angles = places[:, None] * rates[None, :]
    waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)[:, : x.shape[-1]]
    return ops.cast(waves[None], x.dtype)
