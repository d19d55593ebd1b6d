"""A module that answers from the features under an attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.modular.neural_module import NeuralModule, row_of


@keras.saving.register_keras_serializable(package="keras_mtl")
class DescribeModule(NeuralModule):
    """`describe[c]`: an answer from the features under an attention, such as a color.

    `W_c (sum_p a_p x_p / sum_p a_p) + b_c`, with weights of the word's own.

    Args:
        units: Integer. How many numbers the answer has.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features of shape `(batch, height, width, channels)`;
            the word, one-hot, of shape `(batch, words)`; and an attention of
            shape `(batch, height, width, 1)`.

    Returns:
        Tensor of shape `(batch, units)`: logits.

    Example:

    >>> keras_mtl.modular.DescribeModule(5)([np.ones((2, 3, 3, 4)), np.eye(2), np.ones((2, 3, 3, 1))]).shape
    TensorShape([2, 5])

    Reference:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.
    """

    takes = ("attention",)
    gives = "answer"
    takes_word = True

    def __init__(self, units: int, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.units = units

    def build(self, input_shape: Sequence[Shape]) -> None:
        features, word, _ = input_shape
        self.kernel = self.add_weight(shape=(word[-1], features[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(word[-1], self.units), initializer="zeros", name="bias")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        features, word, attention = inputs
        total = ops.sum(attention, axis=(1, 2))
        seen = ops.sum(attention * features, axis=(1, 2)) / (total + keras.config.epsilon())
        return ops.einsum("bc,bcu->bu", seen, row_of(self.kernel, word)) + row_of(self.bias, word)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (input_shape[0][0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
