"""Cross-stitch units: each task's features become a weighted sum of all columns'."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import layers

from keras_mtl._types import Shape, Structure, Tensor
from keras_mtl.layers._shapes import check_same_shape, check_self_weight, first_mask, stitch_weights


@keras.saving.register_keras_serializable(package="keras_mtl")
class CrossStitch(layers.Layer):
    """The row of a cross-stitch unit that belongs to one task.

    With the features `x_1, ..., x_K` of K columns, task k goes on with
    `sum_j alpha_kj x_j`. The weights are free: no softmax, no bounds.

    Args:
        index: Integer. The task's own column, k, counted from 0.
        per: `"channel"` for a weight for each column and entry of the last
            axis, or `"layer"` for one for each column. Defaults to
            `"channel"`.
        self_weight: Float. Where the task's own weight starts; the others
            start at `(1 - self_weight) / (K - 1)`. Defaults to 0.9.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of K tensors of one shape.

    Returns:
        Tensor of that shape.

    Example:

    >>> unit = keras_mtl.layers.CrossStitch(index=0, per="layer")
    >>> keras.ops.convert_to_numpy(unit([np.ones((1, 2)), np.zeros((1, 2))])).round(2)
    array([[0.9, 0.9]], dtype=float32)

    Reference:

    - I. Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016.
    """

    def __init__(
        self,
        index: int,
        per: Literal["channel", "layer"] = "channel",
        self_weight: float = 0.9,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if per not in ("channel", "layer"):
            raise ValueError(f"`per` should be 'channel' or 'layer'. Received: per={per!r}")
        self.self_weight, self.index = check_self_weight(self_weight, index)
        self.per = per
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        shape = check_same_shape(input_shape, f"Unit '{self.name}'")
        width = shape[-1] if self.per == "channel" else 1
        start = self._start(len(input_shape), width)
        self.alpha = self.add_weight(
            shape=start.shape,
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(start, dtype=dtype),
            name="alpha",
        )

    def _start(self, count: int, width: Structure) -> np.ndarray:
        weights = np.array(stitch_weights(self.self_weight, self.index, count), "float32")
        return np.repeat(weights[:, None], width, axis=1)

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        shape, alpha = inputs[0].shape, self.alpha
        if self.per == "layer" or len(shape) < 3 or None in shape[1:]:
            return self._mix(alpha, inputs)
        # Channels of neighbouring places side by side: weights repeated along long rows cost half of those along short.
        alpha = keras.ops.tile(alpha, (1, shape[-2]))
        mixed = self._mix(alpha, [keras.ops.reshape(x, (-1, alpha.shape[-1])) for x in inputs])
        return keras.ops.reshape(mixed, (-1, *shape[1:]))

    @staticmethod
    def _mix(alpha: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        return functools.reduce(keras.ops.add, [alpha[j] * x for j, x in enumerate(inputs)])

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[0])

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask, self.index)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The weights, of shape `(K, C)` or, with one a column, `(K,)`."""
        del output
        alpha = keras.ops.convert_to_numpy(self.alpha.value)
        return alpha if self.per == "channel" else alpha[:, 0]

    def start_coefficients(self) -> np.ndarray:
        """What `coefficients` returned before training."""
        start = self._start(*self.alpha.shape)
        return start if self.per == "channel" else start[:, 0]

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each tensor that comes in."""
        return coefficients if coefficients.ndim == 1 else coefficients.mean(axis=1)

    def get_config(self) -> dict[str, Any]:
        config = {"index": self.index, "per": self.per, "self_weight": self.self_weight}
        return {**super().get_config(), **config}
