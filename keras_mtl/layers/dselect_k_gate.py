"""The gate of DSelect-k: at most k experts, differentiably."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._types import Shape, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class DSelectKGate(layers.Layer):
    r"""Weights of n experts, of which at most k end up above 0.

    Each of k selectors writes an expert's number in `m = ceil(log2 n)` binary
    digits, each digit a smooth step `S(z)` of a free number:

    ```math
    S(z) = \begin{cases}
    0 & z \le -c / 2 \\
    1 & z \ge c / 2 \\
    \frac{3 z}{2 c} - \frac{2 z^3}{c^3} + \frac{1}{2} & \text{else}
    \end{cases}
    ```

    ```math
    r_s[i] = \prod_{b \in i} S(z_{sb}) \prod_{b \notin i} (1 - S(z_{sb})), \quad
    g[i] = \sum_s \mathrm{softmax}(w)_s \, r_s[i]
    ```

    where the bits b of i that are 1 are those in i.

    Once every digit is 0 or 1, each selector has chosen one expert. Where n is
    no power of 2, `1 / sum_i r_s[i] - 1`, summed over the selectors, joins the
    loss and keeps them from numbers that are no expert's.

    Args:
        num_experts: Integer. n.
        k: Integer from 1 to n. How many selectors there are.
        per_example: Boolean. Whether the numbers are affine functions of the
            example instead of plain variables. Defaults to `False`.
        gamma: Float. c, the width of the smooth step. Defaults to 1.
        entropy_strength: Float. Times the selectors' entropy, summed over
            selectors, this joins the loss in training. Defaults to 0.
        seed: Integer or `None`. Seed of the start. Defaults to `None`: drawn
            from the global seed.
        name: String. Name of the layer.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`; `(batch, features)` with
            `per_example`.
        training: Boolean. Whether to add to the loss.

    Returns:
        Tensor of shape `(batch, n)`. It sums to 1 over the last axis where n
        is a power of 2, and otherwise once no selector is on another number.

    Example:

    >>> keras_mtl.layers.DSelectKGate(num_experts=4, k=2)(np.ones((3, 5))).shape
    TensorShape([3, 4])

    Reference:

    - H. Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task
      Learning", NeurIPS 2021.

    Deviations: the added losses are means over examples where the official
    code sums them, and 1 is taken off the term for other numbers, so that it
    ends at 0.
    """

    def __init__(
        self,
        num_experts: int,
        k: int,
        per_example: bool = False,
        gamma: float = 1.0,
        entropy_strength: float = 0.0,
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_experts = check_integer(num_experts, "num_experts", 1)
        self.k = check_integer(k, "k", 1, self.num_experts)
        self.per_example = check_boolean(per_example, "per_example")
        self.gamma = check_number(gamma, "gamma", above=0)
        self.entropy_strength = check_number(entropy_strength, "entropy_strength")
        self.seed = seed
        self.digits = math.ceil(math.log2(self.num_experts))
        numbers = np.arange(self.num_experts)[:, None] >> np.arange(self.digits)[::-1]
        self.codes = (numbers & 1).astype("float32")

    def build(self, input_shape: Shape) -> None:
        self.digit_logits, self.digit_bias = self._add("digit", self.k * self.digits, self.gamma / 100, input_shape)
        if self.k > 1:  # a lone selector has weight 1
            self.selector_logits, self.selector_bias = self._add("selector", self.k, 0.05, input_shape)

    def _add(
        self, name: str, size: int, bound: float, input_shape: Shape
    ) -> tuple[keras.Variable, keras.Variable | None]:
        shapes = {"logits": (input_shape[-1], size), "bias": (size,)} if self.per_example else {"logits": (size,)}
        made = {}
        for place, (kind, shape) in enumerate(shapes.items()):
            seed = None if self.seed is None else (self.seed + 2 * (name == "selector") + place) % 2**31
            initializer = keras.initializers.RandomUniform(-bound, bound, seed=seed)
            made[kind] = self.add_weight(shape=shape, initializer=initializer, name=f"{name}_{kind}")
        return made["logits"], made.get("bias")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        choices = self._choices(self._affine(inputs, self.digit_logits, self.digit_bias))
        if training:
            self._add_losses(choices)
        if self.k == 1:
            gate = choices[:, 0]
        else:
            selectors = ops.softmax(self._affine(inputs, self.selector_logits, self.selector_bias))
            gate = ops.sum(selectors[..., None] * choices, axis=1)
        return ops.broadcast_to(gate, (ops.shape(inputs)[0], self.num_experts))

    def _affine(self, inputs: Tensor, logits: Tensor, bias: Tensor | None) -> Tensor:
        return ops.matmul(inputs, logits) + bias if self.per_example else logits[None]

    def _choices(self, digits: Tensor) -> Tensor:
        """The selectors' outputs r, of shape `(batch or 1, k, n)`."""
        rows = -1 if self.digits else ops.shape(digits)[0]  # a lone expert has no digits to count by
        z = ops.reshape(digits, (rows, self.k, 1, self.digits))
        inside = 1.5 * z / self.gamma - 2 * ops.power(z / self.gamma, 3) + 0.5
        one = ops.where(z >= self.gamma / 2, ops.ones_like(z), inside)
        one = ops.where(z <= -self.gamma / 2, ops.zeros_like(z), one)
        codes = ops.cast(self.codes, one.dtype)
        return ops.prod(codes * one + (1 - codes) * (1 - one), axis=-1)

    def _add_losses(self, choices: Tensor) -> None:
        if self.entropy_strength:
            entropy = -ops.sum(choices * ops.log(choices + 1e-6), axis=(1, 2))
            self.add_loss(self.entropy_strength * ops.mean(entropy))
        if self.num_experts != 2**self.digits:
            outside = 1 / (ops.sum(choices, axis=-1) + 1e-6) - 1
            self.add_loss(ops.mean(ops.sum(outside, axis=-1)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_experts)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The weights, of shape `(n,)`; with `per_example`, their means over examples."""
        if not self.per_example:
            return ops.convert_to_numpy(self(ops.zeros((1, 1))))[0]
        return None if output is None else output.mean(axis=0)

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each expert."""
        return coefficients

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "k": self.k,
            "per_example": self.per_example,
            "gamma": self.gamma,
            "entropy_strength": self.entropy_strength,
            "seed": self.seed,
        }
