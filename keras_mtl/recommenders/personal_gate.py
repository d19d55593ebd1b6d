"""Features scaled by what is known beforehand of an example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class PersonalGate(layers.Layer):
    """Scales features by a gate of prior knowledge of the example.

    `gamma * sigmoid(W_2 relu(W_1 [prior; stop(context)] + b_1) + b_2) * features`: no gradient goes back from the
    gate into the context.

    Args:
        hidden: Integer. Size of the gate's hidden layer. Defaults to `None`: as wide as the features.
        gamma: Float. The largest factor; features keep their size where the gate is at its middle. Defaults to 2.0.
        name: String. Name of the layer.

    Call arguments:
        inputs: List `[prior, context, features]` of two vectors for each example, of shape `(batch, ...)`, and a
            tensor of shape `(batch, ..., width)`, whose last axis is scaled.

    Returns:
        Tensor of the features' shape.

    Example:

    >>> keras_mtl.recommenders.PersonalGate()([np.ones((2, 3)), np.ones((2, 4)), np.ones((2, 5))]).shape
    TensorShape([2, 5])

    Reference:

    - J. Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior
      Information", KDD 2023, arXiv:2302.01115.
    """

    def __init__(self, hidden: int | None = None, gamma: float = 2.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.hidden = check_integer(hidden, "hidden", 1, or_none=True)
        self.gamma = check_number(gamma, "gamma", above=0)

    def build(self, input_shape: Sequence[Shape]) -> None:
        prior, context, features = input_shape
        if len(prior) != 2 or len(context) != 2 or features[-1] is None:
            raise ValueError(
                f"Gate '{self.name}' should take two vectors for each example, and features of known width. Received: "
                f"shapes {[tuple(shape) for shape in input_shape]}"
            )
        width = features[-1]
        self.first = layers.Dense(self.hidden or width, activation="relu", name="hidden", dtype=self.dtype_policy)
        self.second = layers.Dense(width, activation="sigmoid", name="gate", dtype=self.dtype_policy)
        self.first.build((None, prior[-1] + context[-1]))
        self.second.build((None, self.hidden or width))

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        prior, context, features = inputs
        gate = self.second(self.first(ops.concatenate([prior, ops.stop_gradient(context)], axis=-1)))
        while len(gate.shape) < len(features.shape):
            gate = ops.expand_dims(gate, axis=1)
        return self.gamma * gate * features

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[2])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden, "gamma": self.gamma}
