"""Sluice units: cross-stitching between subspaces, and between layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers._shapes import check_same_shape, check_self_weight, first_mask, stitch_weights


@keras.saving.register_keras_serializable(package="keras_mtl")
class SubspaceStitch(layers.Layer):
    """The rows of a sluice unit that belong to one task.

    The last axis of each of the K columns' features is cut into S blocks, the
    subspaces. Subspace s of task k becomes
    `sum_j sum_r alpha_k[s, j, r] x_j[r]`.

    Args:
        index: Integer. The task's own column, counted from 0.
        subspaces: Integer. S. With 1 this is a cross-stitch unit with one
            weight for each column. Defaults to 2.
        self_weight: Float. Where the weight of a subspace on itself starts;
            the others start at `(1 - self_weight) / (K S - 1)`. Defaults to
            0.9.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of K tensors of one shape, its last axis divisible by S.

    Returns:
        Tensor of that shape.

    Example:

    >>> unit = keras_mtl.layers.SubspaceStitch(index=0, self_weight=1.0)
    >>> unit([np.ones((1, 4)), np.zeros((1, 4))]).shape
    TensorShape([1, 4])

    Reference:

    - S. Ruder et al., "Latent Multi-task Architecture Learning", AAAI 2019.
    """

    def __init__(
        self, index: int, subspaces: int = 2, self_weight: float = 0.9, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.subspaces = check_integer(subspaces, "subspaces", 1)
        self.self_weight, self.index = check_self_weight(self_weight, index)
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        shape = check_same_shape(input_shape, f"Unit '{self.name}'")
        if shape[-1] % self.subspaces:
            raise ValueError(
                f"The last axis of what unit '{self.name}' takes should be divisible by `subspaces`. "
                f"Received: subspaces={self.subspaces}; shape {shape}"
            )
        start = self._start(len(input_shape))
        self.alpha = self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype=dtype),
            name="alpha",
        )

    def _start(self, count: int) -> np.ndarray:
        first, rows = self.index * self.subspaces, count * self.subspaces
        return np.array([stitch_weights(self.self_weight, first + s, rows) for s in range(self.subspaces)])

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        joined = ops.concatenate(inputs, axis=-1)
        outer, width = ops.shape(joined)[:-1], inputs[0].shape[-1]
        blocks = ops.reshape(joined, (*outer, self.alpha.shape[1], width // self.subspaces))
        return ops.reshape(ops.matmul(self.alpha, blocks), (*outer, width))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[0])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask, self.index)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The weights, of shape `(S, K, S)`."""
        del output
        return ops.convert_to_numpy(self.alpha.value).reshape(self.subspaces, -1, self.subspaces)

    def start_coefficients(self) -> np.ndarray:
        """What `coefficients` returned before training."""
        start = self._start(self.alpha.shape[1] // self.subspaces)
        return start.reshape(self.subspaces, -1, self.subspaces)

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each tensor that comes in."""
        return coefficients.sum(axis=-1).mean(axis=0)

    def get_config(self) -> dict[str, Any]:
        config = {"index": self.index, "subspaces": self.subspaces, "self_weight": self.self_weight}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_mtl")
class LayerStitch(layers.Layer):
    """A learned weighted sum of the outputs of a column's stages.

    `sum_l beta_l x_l` over L stages.

    Args:
        last_weight: Float. Where the weight of the last stage starts; the
            others start at `(1 - last_weight) / (L - 1)`. Defaults to 0.9.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of L tensors of one shape.

    Returns:
        Tensor of that shape.

    Example:

    >>> keras_mtl.layers.LayerStitch()([np.ones((1, 4)), np.ones((1, 4))]).shape
    TensorShape([1, 4])

    Reference:

    - S. Ruder et al., "Latent Multi-task Architecture Learning", AAAI 2019.
    """

    def __init__(self, last_weight: float = 0.9, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.last_weight = check_number(last_weight, "last_weight")
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        check_same_shape(input_shape, f"Unit '{self.name}'")
        start = self._start(len(input_shape))
        self.beta = self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype=dtype),
            name="beta",
        )

    def _start(self, count: int) -> np.ndarray:
        return np.array(stitch_weights(self.last_weight, count - 1, count))

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        return sum(self.beta[i] * x for i, x in enumerate(inputs))

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[0])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask, -1)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The weights, of shape `(L,)`."""
        del output
        return ops.convert_to_numpy(self.beta.value)

    def start_coefficients(self) -> np.ndarray:
        """What `coefficients` returned before training."""
        return self._start(self.beta.shape[0])

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each tensor that comes in."""
        return coefficients

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "last_weight": self.last_weight}
