"""What a task takes over from the task before it in a funnel, and how predictions keep its order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers._shapes import check_same_shape


@keras.saving.register_keras_serializable(package="keras_mtl")
class InformationTransfer(layers.Layer):
    """Attention over what a task knows and what the task before it hands on.

    With the vectors `p`, handed on, and `q`, the task's own, of width d, `z = sum_u w_u V u` over u in {p, q}, where
    `w = softmax((K u) . (Q u) / sqrt(d))`.

    Args:
        name: String. Name of the layer.

    Call arguments:
        inputs: List `[p, q]` of two tensors of one shape `(..., d)`.

    Returns:
        Tensor of that shape.

    Example:

    >>> keras_mtl.recommenders.InformationTransfer()([np.ones((2, 4)), np.zeros((2, 4))]).shape
    TensorShape([2, 4])

    Reference:

    - D. Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning
      in Targeted Display Advertising", KDD 2021, arXiv:2105.08489.
    """

    def build(self, input_shape: Sequence[Shape]) -> None:
        width = check_same_shape(input_shape, f"Transfer '{self.name}'")[-1]
        self.value, self.key, self.query = (
            self.add_weight(shape=(width, width), name=name) for name in ("value", "key", "query")
        )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        both = ops.stack(inputs, axis=-2)  # (..., 2, d)
        scores = ops.sum(ops.matmul(both, self.key) * ops.matmul(both, self.query), axis=-1)
        weights = ops.softmax(scores / float(both.shape[-1]) ** 0.5)
        return ops.sum(weights[..., None] * ops.matmul(both, self.value), axis=-2)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[1])


@keras.saving.register_keras_serializable(package="keras_mtl")
class FunnelOrder(layers.Layer):
    """Returns a task's probability, and adds to the loss where it is above that of the task before.

    What is added is `strength * mean(max(p_k - p_(k-1), 0))`.

    Args:
        strength: Float.
        name: String. Name of the layer.

    Call arguments:
        inputs: List `[before, this]` of two tensors of one shape.

    Returns:
        The second one.

    Example:

    >>> layer = keras_mtl.recommenders.FunnelOrder(2.0)
    >>> _ = layer([np.array([[0.5], [0.5]]), np.array([[0.8], [0.1]])])
    >>> round(float(layer.losses[0]), 3)
    0.3
    """

    def __init__(self, strength: float, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.strength = check_number(strength, "strength", least=0)

    def build(self, input_shape: Sequence[Shape]) -> None:
        check_same_shape(input_shape, f"Order '{self.name}'")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        before, this = inputs
        self.add_loss(self.strength * ops.mean(ops.relu(this - before)))
        return this

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strength": self.strength}
