"""Gates of experts, and the mixture that follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers._shapes import check_same_shape, first_mask


@keras.saving.register_keras_serializable(package="keras_mtl")
class Gate(layers.Layer):
    """The probabilities with which a task uses each expert.

    `g(x) = softmax(W x / T)`, without bias.

    Args:
        num_experts: Integer. How many experts there are, n.
        temperature: Float. T. Above 1 the gate is softer, below it is sharper.
            Defaults to 1.
        dropout: Float from 0 to 1. In training, how likely an expert is left
            out; the other probabilities are scaled up to a sum of 1. Where all
            would be left out, none is. Defaults to 0.
        name: String. Name of the layer.

    Call arguments:
        inputs: Float tensor of shape `(..., features)`.
        training: Boolean. Whether `dropout` applies.

    Returns:
        Tensor of shape `(..., n)`, positive, with sum 1 over the last axis.

    Example:

    >>> probabilities = keras_mtl.layers.Gate(3)(np.ones((2, 5)))
    >>> keras.ops.convert_to_numpy(keras.ops.sum(probabilities, axis=-1)).round(5)
    array([1., 1.], dtype=float32)

    Reference:

    - J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.
    """

    def __init__(
        self, num_experts: int, temperature: float = 1.0, dropout: float = 0.0, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_experts = check_integer(num_experts, "num_experts", 1)
        self.temperature = check_number(temperature, "temperature", above=0)
        self.dropout = check_number(dropout, "dropout", least=0, below=1)
        self.seed_generator = keras.random.SeedGenerator() if self.dropout else None

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.num_experts), name="kernel")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        probabilities = softmax(ops.matmul(inputs, self.kernel) / self.temperature)
        if not (training and self.dropout):
            return probabilities
        drawn = keras.random.uniform(ops.shape(probabilities), dtype=probabilities.dtype, seed=self.seed_generator)
        kept = probabilities * ops.cast(drawn >= self.dropout, probabilities.dtype)
        total = ops.sum(kept, axis=-1, keepdims=True)
        return ops.where(total > 0, kept / ops.where(total > 0, total, ops.ones_like(total)), probabilities)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The mean probabilities, of shape `(n,)`, from those of examples."""
        return None if output is None else output.reshape(-1, self.num_experts).mean(axis=0)

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each expert."""
        return coefficients

    def get_config(self) -> dict[str, Any]:
        config = {"num_experts": self.num_experts, "temperature": self.temperature, "dropout": self.dropout}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_mtl")
class ExpertMixture(layers.Layer):
    """The experts' outputs, weighted by a gate: `sum_i g_i e_i`.

    Call arguments:
        inputs: List of the gate's output, of shape `(batch, n)`, and n tensors
            of one shape `(batch, ...)`. A gate of the experts' rank, with n as
            its last axis, weighs each position by itself.

    Returns:
        Tensor of the experts' shape.

    Example:

    >>> gate = np.array([[0.25, 0.75]])
    >>> float(keras_mtl.layers.ExpertMixture()([gate, np.ones((1, 1)), np.zeros((1, 1))])[0, 0])
    0.25
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Sequence[Shape]) -> None:
        gate, *experts = input_shape
        shape = check_same_shape(experts, f"Mixture '{self.name}'")
        if len(gate) not in (2, len(shape)) or gate[-1] != len(experts):
            raise ValueError(
                f"The gate of mixture '{self.name}' should have shape (batch, {len(experts)}), or the experts' rank. "
                f"Received: gate of shape {tuple(gate)}; experts of shape {shape}"
            )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        gate, *experts = inputs
        total = 0.0
        for i, expert in enumerate(experts):
            weight = gate[..., i : i + 1]
            while len(weight.shape) < len(expert.shape):
                weight = ops.expand_dims(weight, axis=1)
            total = total + weight * expert
        return total

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[1])

    def compute_mask(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor | None:
        return first_mask(mask[1:]) if isinstance(mask, (list, tuple)) else None


def softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis.

    Keras' own warns where that axis has one entry, as where a gate has a lone
    option. There it is 1, and its gradient is 0.

    Args:
        logits: Float tensor.

    Returns:
        Tensor of that shape, with sum 1 over the last axis.
    """
    return ops.exp(ops.log_softmax(logits)) if logits.shape[-1] == 1 else ops.softmax(logits)
