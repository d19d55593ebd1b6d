"""A module that combines attentions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

from keras_mtl._types import Shape, Tensor
from keras_mtl.modular.neural_module import NeuralModule


@keras.saving.register_keras_serializable(package="keras_mtl")
class CombineModule(NeuralModule):
    """`combine[and]`: where both of two attentions are.

    Args:
        rule: `"product"`, or `"min"`. Defaults to `"product"`.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of features, which it does not look at, and two attentions
            of one shape.

    Returns:
        Tensor of that shape.

    Raises:
        ValueError: If `rule` is neither.

    Example:

    >>> one = np.ones((1, 1, 1, 1))
    >>> float(keras_mtl.modular.CombineModule()([one, 0.5 * one, one])[0, 0, 0, 0])
    0.5

    References:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.
    - R. Hu et al., "Learning to Reason: End-to-End Module Networks for Visual Question Answering", ICCV 2017 (`"min"`).
    """

    takes = ("attention", "attention")

    def __init__(self, rule: Literal["product", "min"] = "product", name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if rule not in ("product", "min"):
            raise ValueError(f"`rule` should be 'product' or 'min'. Received: rule={rule!r}")
        self.rule = rule

    def build(self, input_shape: Sequence[Shape]) -> None:
        _, first, second = input_shape
        if tuple(first) != tuple(second):
            raise ValueError(
                f"Module '{self.name}' should take two attentions of one shape. Received: shapes {first} and {second}"
            )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        _, first, second = inputs
        return first * second if self.rule == "product" else ops.minimum(first, second)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rule": self.rule}
