"""Attention over a cache, optionally gated by another attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class CacheAttention(layers.Layer):
    """Multi-head attention, followed by a residual connection and normalization.

    `LN(x + W_o softmax((Q K^T / sqrt(d)) * gate) V)`, where the gate, if there
    is one, multiplies the logits and not the probabilities.

    Args:
        num_heads: Integer. Number of heads; the features are shared out to them.
        causal: Boolean. Whether a position sees itself and those before it
            only. Defaults to `False`.
        dropout: Float. Of what joins the residual connection. Defaults to `0`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of queries of shape `(batch, q, features)`, a cache of
            shape `(batch, k, features)`, and, if logits are gated, a gate of
            shape `(batch, heads, q, k)`.
        mask: List of boolean masks, or `None`. That of the cache, of shape
            `(batch, k)`, says what may be attended to.
        training: Boolean. Whether `dropout` applies.

    Returns:
        A tensor of the queries' shape and the attention, of shape
        `(batch, heads, q, k)`.

    Raises:
        ValueError: If the features cannot be shared out to the heads.

    Example:

    >>> attention = keras_mtl.multimodal.CacheAttention(num_heads=2)
    >>> features, weights = attention([np.ones((1, 3, 8)), np.ones((1, 5, 8))])
    >>> features.shape, weights.shape
    (TensorShape([1, 3, 8]), TensorShape([1, 2, 3, 5]))

    References:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.
    """

    def __init__(
        self, num_heads: int, causal: bool = False, dropout: float = 0.0, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_heads = num_heads
        self.causal = check_boolean(causal, "causal")
        self.dropout = dropout
        self.supports_masking = True
        self.drop = layers.Dropout(dropout)

    def build(self, input_shape: Sequence[Shape]) -> None:
        features = input_shape[0][-1]
        if features % self.num_heads:
            raise ValueError(
                f"The features should be a multiple of `num_heads`. Received: {features} features, "
                f"num_heads={self.num_heads}"
            )
        self.query, self.key, self.value, self.output_projection = (
            layers.Dense(features, use_bias=False, dtype=self.dtype_policy, name=name)
            for name in ("query", "key", "value", "output")
        )
        self.normalization = layers.LayerNormalization(epsilon=1e-6, dtype=self.dtype_policy, name="normalization")
        for layer in (self.query, self.output_projection, self.normalization):
            layer.build(input_shape[0])
        for layer in (self.key, self.value):
            layer.build(input_shape[1])

    def call(
        self, inputs: Sequence[Tensor], mask: Sequence[Tensor | None] | None = None, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        queries, cache, *gate = inputs
        query, key, value = (
            self._split(self.query(queries)),
            self._split(self.key(cache)),
            self._split(self.value(cache)),
        )
        logits = ops.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
        if gate:
            logits = logits * gate[0]
        allowed = self._allowed(ops.shape(queries)[1], ops.shape(cache)[1], None if mask is None else mask[1])
        if allowed is not None:
            # What is not allowed stays finite, so that rows without anything allowed have no NaN.
            logits = ops.where(allowed, logits, ops.cast(-3e4, logits.dtype))
        # A softmax, which Keras' own would warn of where there is one thing to look at.
        weights = ops.exp(logits - ops.logsumexp(logits, axis=-1, keepdims=True))
        seen = ops.einsum("bhqk,bkhd->bqhd", weights, value)
        seen = self.output_projection(ops.reshape(seen, ops.shape(queries)))
        return self.normalization(queries + self.drop(seen, training=training)), weights

    def _split(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (*ops.shape(x)[:2], self.num_heads, x.shape[-1] // self.num_heads))

    def _allowed(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        allowed = None if mask is None else ops.cast(mask, "bool")[:, None, None, :]
        if self.causal:
            before = ops.arange(queries)[:, None] >= ops.arange(keys)[None, :]
            allowed = before if allowed is None else ops.logical_and(allowed, before)
        return allowed

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        queries, cache = input_shape[:2]
        return tuple(queries), (queries[0], self.num_heads, queries[1], cache[1])

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        del inputs
        return (None if previous_mask is None else previous_mask[0]), None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "causal": self.causal, "dropout": self.dropout}
