"""A small network of its own behind a layer that stays as it is."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_mtl._checks import check_integer
from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class BottleneckAdapter(layers.Layer):
    """Adds what a narrow hidden layer makes of the features to them.

    `h + f(h W_1 + b_1) W_2 + b_2`, on the last axis, with `W_2` and `b_2` 0 at first: so it begins as the identity.

    Args:
        rank: Integer. Size of the hidden layer.
        activation: What `keras.activations.get` takes. f. Defaults to `"gelu"`.
        name: String. Name of the layer.

    Call arguments:
        inputs: Float tensor of shape `(..., features)`.

    Returns:
        Tensor of the same shape.

    Example:

    >>> keras_mtl.layers.BottleneckAdapter(2)(np.ones((1, 3))).numpy().tolist()
    [[1.0, 1.0, 1.0]]

    Reference:

    - N. Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv:1902.00751.
    """

    def __init__(self, rank: int, activation: str = "gelu", name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.rank = check_integer(rank, "rank", 1)
        self.activation = keras.activations.get(activation)
        self.supports_masking = True
        self.down = layers.Dense(self.rank, activation=self.activation, name="down", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        self.up = layers.Dense(input_shape[-1], kernel_initializer="zeros", name="up", dtype=self.dtype_policy)
        self.down.build(input_shape)
        self.up.build((*input_shape[:-1], self.rank))

    def call(self, inputs: Tensor) -> Tensor:
        return inputs + self.up(self.down(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "rank": self.rank, "activation": activation}
