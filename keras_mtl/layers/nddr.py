"""NDDR units: a learned projection of all columns' channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Structure, Tensor
from keras_mtl.layers._shapes import check_same_shape, check_self_weight, first_mask, stitch_weights


@keras.saving.register_keras_serializable(package="keras_mtl")
class NDDR(layers.Layer):
    """The part of a neural discriminative dimensionality reduction of one task.

    The features of K columns are joined on the last axis and projected back to
    C channels: `[x_1; ...; x_K] W_k + b_k`, a 1×1 convolution. `W_k` starts as
    K diagonal blocks, so the start is that of a cross-stitch unit.

    Args:
        index: Integer. The task's own column, counted from 0.
        self_weight: Float. Diagonal of the task's own block at the start; that
            of the others is `(1 - self_weight) / (K - 1)`. Defaults to 0.9.
        batch_normalization: Boolean. Whether batch normalization follows.
            Defaults to `False`.
        kernel_regularizer: Keras regularizer of `W_k`. Defaults to `None`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of K tensors of one shape.

    Returns:
        Tensor of that shape.

    Example:

    >>> keras_mtl.layers.NDDR(index=1)([np.ones((1, 4)), np.ones((1, 4))]).shape
    TensorShape([1, 4])

    Reference:

    - Y. Gao et al., "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative Dimensionality
      Reduction", CVPR 2019.
    """

    def __init__(
        self,
        index: int,
        self_weight: float = 0.9,
        batch_normalization: bool = False,
        kernel_regularizer: str | keras.Regularizer | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.self_weight, self.index = check_self_weight(self_weight, index)
        self.batch_normalization = check_boolean(batch_normalization, "batch_normalization")
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.normalization = layers.BatchNormalization(name="normalization") if batch_normalization else None
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        shape = check_same_shape(input_shape, f"Unit '{self.name}'")
        start = self._start(len(input_shape), shape[-1])
        self.kernel = self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype=dtype),
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias = self.add_weight(shape=(shape[-1],), initializer="zeros", name="bias")
        if self.normalization:
            self.normalization.build(shape)

    def _start(self, count: int, width: Structure) -> np.ndarray:
        weights = stitch_weights(self.self_weight, self.index, count)
        return np.concatenate([weight * np.eye(width) for weight in weights])

    def call(self, inputs: Sequence[Tensor], training: bool | None = None) -> Tensor:
        outputs = ops.matmul(ops.concatenate(inputs, axis=-1), self.kernel) + self.bias
        return self.normalization(outputs, training=training) if self.normalization else outputs

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[0])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask, self.index)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The blocks of the kernel, of shape `(K, C, C)`."""
        del output
        kernel = ops.convert_to_numpy(self.kernel.value)
        return kernel.reshape(-1, kernel.shape[1], kernel.shape[1])

    def start_coefficients(self) -> np.ndarray:
        """What `coefficients` returned before training."""
        rows, width = self.kernel.shape
        return self._start(rows // width, width).reshape(-1, width, width)

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each tensor that comes in."""
        return coefficients.sum(axis=1).mean(axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "index": self.index,
            "self_weight": self.self_weight,
            "batch_normalization": self.batch_normalization,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
