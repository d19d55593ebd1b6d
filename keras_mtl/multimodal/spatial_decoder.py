"""Attention of tokens over spatial caches, gated by temporal attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.multimodal.cache_attention import CacheAttention
from keras_mtl.multimodal.temporal_decoder import joined_masks


@keras.saving.register_keras_serializable(package="keras_mtl")
class SpatialDecoder(layers.Layer):
    """Attention over spatial caches, gated by that over temporal ones.

    The gate of a place is the attention to its time: the columns of the
    temporal attention, each repeated for the places of that time, multiply the
    logits.

    Args:
        num_heads: Integer. Attention heads.
        dropout: Float. Defaults to `0`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of tokens of shape `(batch, q, features)`; the temporal
            attention, of shape `(batch, heads, q, sum t_i)`; and pairs of a
            temporal cache, of shape `(batch, t_i, features)`, and its spatial
            one, of shape `(batch, t_i s_i, features)`. The pairs stand in the
            order of the attention's columns, before caches without space.
        mask: List of masks; those of spatial caches say what may be seen.
        training: Boolean. Whether `dropout` applies.

    Returns:
        Tensor of shape `(batch, q, features)`.

    Example:

    >>> inputs = [np.ones((1, 3, 8)), np.ones((1, 2, 3, 6)), np.ones((1, 5, 8)), np.ones((1, 45, 8))]
    >>> keras_mtl.multimodal.SpatialDecoder(num_heads=2)(inputs).shape
    TensorShape([1, 3, 8])

    Reference:

    - S. Pramanik et al., "OmniNet: A unified architecture for multi-modal multi-task learning", 2019.

    Deviations: the official code has one more linear layer behind it, from the
    width of the spatial cache to that of the model, which are the same here.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.num_heads, self.dropout = num_heads, dropout
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        tokens, _, _, spatial, *_ = input_shape
        self.attention = CacheAttention(self.num_heads, dropout=self.dropout, dtype=self.dtype_policy, name="attention")
        self.attention.build([tokens, spatial])

    def call(
        self, inputs: Sequence[Tensor], mask: Sequence[Tensor | None] | None = None, training: bool | None = None
    ) -> Tensor:
        tokens, seen, *caches = inputs
        temporal, spatial = caches[::2], caches[1::2]
        gate = self.gate(seen, temporal, spatial)
        known = None if mask is None else joined_masks(mask[3::2], spatial)
        cache = ops.concatenate(spatial, axis=1)
        return self.attention([tokens, cache, gate], mask=[None, known, None], training=training)[0]

    def gate(self, seen: Tensor, temporal: Tensor, spatial: Tensor) -> Tensor:
        """What multiplies the logits, of shape `(batch, heads, q, sum t_i s_i)`."""
        gates, start = [], 0
        for over_time, over_space in zip(temporal, spatial, strict=True):
            end = start + ops.shape(over_time)[1]
            # Of one of the two, at least, the sizes are known: caches of a fixed time come with their space.
            space = ops.shape(over_space)[1] // ops.shape(over_time)[1]
            gates.append(ops.repeat(seen[..., start:end], space, axis=-1))
            start = end
        return ops.concatenate(gates, axis=-1)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        del inputs, previous_mask

    def compute_output_spec(
        self, inputs: Sequence[keras.KerasTensor], mask: Tensor | None = None, training: bool | None = None
    ) -> keras.KerasTensor:
        del mask, training
        return keras.KerasTensor(inputs[0].shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads, "dropout": self.dropout}
