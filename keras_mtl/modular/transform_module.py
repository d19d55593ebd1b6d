"""A module that moves an attention by a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl._checks import is_integer
from keras_mtl._types import Shape, Tensor
from keras_mtl.modular.neural_module import NeuralModule, row_of


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformModule(NeuralModule):
    """`transform[c]`: shifts an attention as a word says, such as "above".

    `sigmoid(scale (K_c * a) + b_c)`, with a small kernel of the word's own.

    Args:
        kernel_size: Odd integer. Defaults to `3`: as far as the next position.
        scale: Float. Makes room between 0 and 1, which attentions are.
            Defaults to `4`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features, which it does not look at; the word, one-hot,
            of shape `(batch, words)`; and an attention of shape
            `(batch, height, width, 1)`.

    Returns:
        Tensor of the attention's shape.

    Raises:
        ValueError: If `kernel_size` is not an odd integer.

    Example:

    >>> moved = keras_mtl.modular.TransformModule()([np.ones((2, 3, 3, 4)), np.eye(2), np.ones((2, 3, 3, 1))])
    >>> moved.shape
    TensorShape([2, 3, 3, 1])

    Reference:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.

    Deviations: a convolution; the paper has a perceptron on the whole map,
    with weights of the word's own too, which has to learn every place anew.
    """

    takes = ("attention",)
    takes_word = True

    def __init__(self, kernel_size: int = 3, scale: float = 4.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not is_integer(kernel_size) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` should be an odd integer. Received: kernel_size={kernel_size!r}")
        self.kernel_size = int(kernel_size)
        self.scale = scale

    def build(self, input_shape: Sequence[Shape]) -> None:
        words = input_shape[1][-1]
        start = keras.initializers.RandomNormal(stddev=0.1)  # no direction is much ahead of the others
        self.kernel = self.add_weight(shape=(words, self.kernel_size**2), initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(words, 1), initializer="zeros", name="bias")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        _, word, attention = inputs
        kernel, bias = row_of(self.kernel, word), row_of(self.bias, word)
        reach, (height, width) = self.kernel_size // 2, attention.shape[1:3]
        around = ops.pad(attention[..., 0], [[0, 0], [reach, reach], [reach, reach]])
        total = bias[:, None]
        for place in range(self.kernel_size**2):
            y, x = divmod(place, self.kernel_size)
            seen = around[:, y : y + height, x : x + width]
            total = total + self.scale * seen * kernel[:, place, None, None]
        return ops.sigmoid(total)[..., None]

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "scale": self.scale}
