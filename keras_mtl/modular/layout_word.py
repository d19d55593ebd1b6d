"""The one-hot word of a module in a layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Inputs, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class LayoutWord(layers.Layer):
    """Picks one of an example's words and makes it one-hot.

    Args:
        slot: Integer. Which one.
        vocabulary: List of strings. What the numbers mean.
        name: String. Name of the layer.

    Call arguments:
        inputs: Integer tensor of shape `(batch, slots)`.

    Returns:
        Float tensor of shape `(batch, len(vocabulary))`.

    Example:

    >>> keras_mtl.modular.LayoutWord(1, ["red", "blue"])(np.array([[1, 0]])).numpy().tolist()
    [[1.0, 0.0]]
    """

    def __init__(self, slot: int, vocabulary: Sequence[str], name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.slot = slot
        self.vocabulary = list(vocabulary)

    def call(self, inputs: Tensor) -> Tensor:
        return ops.one_hot(inputs[:, self.slot], len(self.vocabulary), dtype=self.compute_dtype)

    def compute_output_spec(self, inputs: Inputs) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0], len(self.vocabulary)), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "slot": self.slot, "vocabulary": self.vocabulary}
