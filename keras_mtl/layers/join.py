"""Concatenation of a task's features and what other tasks give it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Shape, Tensor
from keras_mtl.layers._shapes import first_mask


@keras.saving.register_keras_serializable(package="keras_mtl")
class Join(layers.Layer):
    """Concatenates features with vectors or features of other tasks.

    The axis is the last one. A vector beside features of a sequence or an
    image is repeated at every position.

    Call arguments:
        inputs: List of tensors. The first says the shape, of `(batch, ...,
            width)`; the others have that shape but for the last axis, or are
            of shape `(batch, width)`.

    Returns:
        Tensor of the first one's shape, with all widths together.

    Raises:
        ValueError: If a tensor does not fit the first one.

    Example:

    >>> joined = keras_mtl.layers.Join()([np.zeros((2, 5, 3)), np.ones((2, 4))])
    >>> joined.shape
    TensorShape([2, 5, 7])
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        first, *others = input_shape
        for shape in others:
            fits = len(shape) == 2 or (
                len(shape) == len(first)
                and all(a == b or a is None or b is None for a, b in zip(shape[1:-1], first[1:-1], strict=True))
            )
            if not fits or len(first) < 2:
                raise ValueError(
                    "What is joined should have the first one's shape but for the last axis, or be a vector for each "
                    f"example. Received: shapes {[tuple(s) for s in input_shape]}"
                )
        return (*first[:-1], sum(shape[-1] for shape in input_shape))

    def compute_output_spec(self, inputs: Inputs, mask: Tensor | None = None) -> keras.KerasTensor:
        shape = self.compute_output_shape([x.shape for x in inputs])
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        self.compute_output_shape([x.shape for x in inputs])
        first, *others = inputs
        return ops.concatenate([first, *(self._at_positions(x, first) for x in others)], axis=-1)

    def _at_positions(self, x: Tensor, first: Tensor) -> Tensor:
        rank = len(first.shape)
        if len(x.shape) == rank:
            return x
        x = ops.reshape(x, (-1, *[1] * (rank - 2), x.shape[-1]))
        return ops.broadcast_to(x, (*ops.shape(first)[:-1], x.shape[-1]))

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask)
