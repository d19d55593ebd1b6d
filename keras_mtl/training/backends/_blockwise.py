"""Large task gradients on the CPU under JAX, kept apart: their inner products are summed block by block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import keras

from keras_mtl._types import Tensor

_BLOCK = 4096  # entries of each gradient: those of a block stay in the cache
_SMALLEST = 16 * _BLOCK


class BlockwiseRows:
    """K task gradients of one target, each as it is.

    XLA writes a stack of them, and one that is divided by their units, and its
    product of a few long rows reads these slowly. Accelerators do better. It
    has the methods of `task_gradients.Rows`.

    Args:
        gradients: List of K float32 arrays in the shape of the target.
        target: The variable or tensor.
    """

    def __init__(self, gradients: Sequence[Tensor], target: keras.Variable) -> None:
        self._gradients = list(gradients)
        self.target = target

    @classmethod
    def where_worth_it(cls, gradients: Sequence[Tensor | None], target: Tensor) -> BlockwiseRows | None:
        """The rows of K gradients, or `None` where it is not worth it or a task does not reach the target."""
        if jax.default_backend() != "cpu" or math.prod(target.shape) < _SMALLEST:
            return None
        if any(gradient is None or gradient.dtype != jnp.float32 for gradient in gradients):
            return None
        return cls(gradients, target)

    def matrix(self) -> Tensor:
        """Array of shape `(K, P)`."""
        return jnp.stack([gradient.reshape(-1) for gradient in self._gradients])

    def magnitudes(self) -> Tensor:
        """How large the K gradients are at most, of shape `(K,)`."""
        return jnp.stack([jnp.max(jnp.abs(gradient)) for gradient in self._gradients])

    def gramian(self, units: Tensor) -> Tensor:
        """Inner products of the K gradients, each divided by its unit, float32 of shape `(K, K)`."""
        flat = [gradient.reshape(-1) for gradient in self._gradients]
        whole = len(flat[0]) // _BLOCK * _BLOCK

        def products(rows: Sequence[Tensor]) -> Tensor:
            stacked = jnp.stack(rows) / units[:, None]
            return stacked @ stacked.T

        def add(total: Tensor, rows: Sequence[Tensor]) -> tuple[Tensor, None]:
            return total + products(rows), None

        blocks = [row[:whole].reshape(-1, _BLOCK) for row in flat]
        total = jax.lax.scan(add, jnp.zeros((len(flat), len(flat)), units.dtype), blocks)[0]
        return total + products([row[whole:] for row in flat])

    def combine(self, weights: Tensor) -> Tensor:
        """Weighted sum of the K gradients, in the shape of the target."""
        return sum(weights[k].astype("float32") * gradient for k, gradient in enumerate(self._gradients))
