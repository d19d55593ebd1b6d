"""A module that attends to what a word names."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.modular.neural_module import NeuralModule, row_of


@keras.saving.register_keras_serializable(package="keras_mtl")
class FindModule(NeuralModule):
    """`find[c]`: where a word's thing is, as an attention.

    `a = sigmoid(w_c x + b_c)` at each position, a 1x1 convolution with weights
    of the word's own.

    Args:
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features of shape `(batch, height, width, channels)`
            and the word, one-hot, of shape `(batch, words)`.

    Returns:
        Tensor of shape `(batch, height, width, 1)`, from 0 to 1.

    Example:

    >>> attention = keras_mtl.modular.FindModule()([np.ones((2, 3, 3, 4)), np.eye(2)])
    >>> attention.shape
    TensorShape([2, 3, 3, 1])

    Reference:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.
    """

    takes_word = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        features, word = input_shape
        self.kernel = self.add_weight(shape=(word[-1], features[-1]), name="kernel")
        self.bias = self.add_weight(shape=(word[-1], 1), initializer="zeros", name="bias")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        features, word = inputs
        kernel, bias = row_of(self.kernel, word), row_of(self.bias, word)
        return ops.sigmoid(ops.einsum("bhwc,bc->bhw", features, kernel) + bias[:, None])[..., None]

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (*input_shape[0][:-1], 1)
