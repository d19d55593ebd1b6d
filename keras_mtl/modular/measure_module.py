"""A module that answers from an attention alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.modular.neural_module import NeuralModule


@keras.saving.register_keras_serializable(package="keras_mtl")
class MeasureModule(NeuralModule):
    """`measure`: an answer from how much attention there is, such as yes or no.

    `W [min a, mean a, max a] + b`, over positions. With one unit it starts as
    `4 max a - 2`: yes, where there is attention anywhere. Of random weights,
    half would start with attention to what is not there, and stay with it.

    Args:
        units: Integer. How many numbers the answer has: 1 for yes or no.
            Defaults to `1`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features, which it does not look at, and an attention
            of shape `(batch, height, width, 1)`.

    Returns:
        Tensor of shape `(batch, units)`: logits.

    Example:

    >>> keras_mtl.modular.MeasureModule()([np.ones((2, 3, 3, 4)), np.ones((2, 3, 3, 1))]).shape
    TensorShape([2, 1])

    References:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.
    - R. Hu et al., "Learning to Reason: End-to-End Module Networks for Visual Question Answering", ICCV 2017.

    Deviations: minimum, mean and maximum as in the second paper; the first has
    a dense layer on all positions.
    """

    takes = ("attention",)
    gives = "answer"

    def __init__(self, units: int = 1, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.units = units

    def build(self, input_shape: Sequence[Shape]) -> None:
        yes_or_no = self.units == 1
        start = keras.initializers.Constant([[0.0], [0.0], [4.0]]) if yes_or_no else "glorot_uniform"
        self.kernel = self.add_weight(shape=(3, self.units), initializer=start, name="kernel")
        start = keras.initializers.Constant(-2.0 if yes_or_no else 0.0)
        self.bias = self.add_weight(shape=(self.units,), initializer=start, name="bias")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        attention = inputs[1]
        axes = tuple(range(1, len(attention.shape) - 1))
        seen = [reduce(attention, axis=axes) for reduce in (ops.min, ops.mean, ops.max)]
        return ops.matmul(ops.concatenate(seen, axis=-1), self.kernel) + self.bias

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return (input_shape[1][0], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
