"""Attention of tokens over each other and over temporal caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Shape, Tensor
from keras_mtl.multimodal.cache_attention import CacheAttention


@keras.saving.register_keras_serializable(package="keras_mtl")
class TemporalDecoder(layers.Layer):
    """Causal attention over tokens, then attention over temporal caches.

    Args:
        num_heads: Integer. Attention heads.
        dropout: Float. Defaults to `0`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of tokens of shape `(batch, q, features)` and one or more
            caches of shape `(batch, t_i, features)`.
        mask: List of masks, `None` or of shape `(batch, t_i)`.
        training: Boolean. Whether `dropout` applies.

    Returns:
        List of a tensor of shape `(batch, q, features)` and the attention over
        all caches, of shape `(batch, heads, q, sum t_i)`.

    Example:

    >>> decoder = keras_mtl.multimodal.TemporalDecoder(num_heads=2)
    >>> [x.shape for x in decoder([np.ones((1, 3, 8)), np.ones((1, 1, 8)), np.ones((1, 5, 8))])]
    [TensorShape([1, 3, 8]), TensorShape([1, 2, 3, 6])]

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.num_heads, self.dropout = num_heads, dropout
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        options = {"num_heads": self.num_heads, "dropout": self.dropout, "dtype": self.dtype_policy}
        self.tokens = CacheAttention(causal=True, name="tokens", **options)
        self.caches = CacheAttention(name="caches", **options)
        self.tokens.build([input_shape[0], input_shape[0]])
        self.caches.build([input_shape[0], input_shape[1]])

    def call(
        self, inputs: Sequence[Tensor], mask: Sequence[Tensor | None] | None = None, training: bool | None = None
    ) -> list[Tensor]:
        tokens, *caches = inputs
        tokens, _ = self.tokens([tokens, tokens], training=training)
        known = None if mask is None else joined_masks(mask[1:], caches)
        cache = ops.concatenate(caches, axis=1)
        return list(self.caches([tokens, cache], mask=[None, known], training=training))

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Tensor | None:
        del inputs, previous_mask
        return [None, None]

    def compute_output_spec(
        self, inputs: Inputs, mask: Tensor | None = None, training: bool | None = None
    ) -> list[keras.KerasTensor]:
        del mask, training
        tokens, *caches = inputs
        times = [cache.shape[1] for cache in caches]
        seen = (tokens.shape[0], self.num_heads, tokens.shape[1], None if None in times else sum(times))
        return [keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in (tokens.shape, seen)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "dropout": self.dropout}


def joined_masks(masks: Sequence[Tensor | None], tensors: Sequence[Tensor]) -> Tensor | None:
    """One mask for tensors that are put one behind the other; `None` where none has one."""
    if all(mask is None for mask in masks):
        return None
    known = [
        ops.ones(ops.shape(tensor)[:2], "bool") if mask is None else ops.cast(mask, "bool")
        for mask, tensor in zip(masks, tensors, strict=True)
    ]
    return ops.concatenate(known, axis=1)
