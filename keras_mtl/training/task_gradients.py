"""Gradients of K task losses with respect to the same targets, and how they are combined."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_mtl._float64 import float64
from keras_mtl._types import Tensor
from keras_mtl.training.backends import core


class TaskGradients:
    """Gradients of K task losses with respect to the same variables or tensors.

    Args:
        rows: List of K lists of gradients, `None` where a task does not reach
            a target.
        targets: List of the variables or tensors.
    """

    def __init__(self, rows: Sequence[Sequence[Tensor | None]], targets: Sequence[Tensor]) -> None:
        columns = [[row[i] for row in rows] for i in range(len(targets))]
        self.of_targets = [
            core.factored(column, target) or Rows(ops.stack([_flat(g, target) for g in column]), target)
            for column, target in zip(columns, targets, strict=True)
        ]

    def reduced(self) -> TaskGradients:
        """Sums the gradients over the replicas. Returns itself."""
        if core.replicas() > 1:
            matrices = core.all_reduce([rows.matrix() for rows in self.of_targets])
            self.of_targets = [Rows(m, rows.target) for m, rows in zip(matrices, self.of_targets, strict=True)]
        return self

    def gramian(self) -> Tensor:
        """Inner products of the task gradients.

        Returns:
            float64 tensor of shape `(K, K)`. Accurate to float32, or to float64
            where the targets are, for gradients of any size: their squares
            neither overflow nor vanish.
        """
        dtype = "float64" if any(rows.target.dtype == "float64" for rows in self.of_targets) else "float32"
        units = ops.max(ops.stack([ops.cast(rows.magnitudes(), dtype) for rows in self.of_targets]), axis=0)
        units = ops.where(units > 0, units, ops.ones_like(units))
        products = ops.sum(ops.stack([ops.cast(rows.gramian(units), dtype) for rows in self.of_targets]), axis=0)
        with float64():
            units = ops.cast(units, "float64")
            return ops.cast(products, "float64") * units[:, None] * units[None, :]

    def jacobian(self) -> Tensor:
        """The task gradients in one matrix.

        Returns:
            float32 tensor of shape `(K, P)`, P being the size of all targets.
        """
        return ops.concatenate([ops.cast(rows.matrix(), "float32") for rows in self.of_targets], axis=1)

    def combine(self, weights: Tensor) -> list[Tensor]:
        """Weighted sums of the task gradients.

        Args:
            weights: Float tensor of shape `(K,)`.

        Returns:
            List of tensors in the shapes of the targets.
        """
        return [rows.combine(weights) for rows in self.of_targets]

    def split(self, direction: Tensor) -> list[Tensor]:
        """Cuts a direction of shape `(P,)` into the shapes and dtypes of the targets."""
        return split(direction, [rows.target for rows in self.of_targets])


class Rows:
    """K task gradients as the rows of a matrix.

    Args:
        matrix: Tensor of shape `(K, P)`, P being the size of the target.
        target: The variable or tensor.
    """

    def __init__(self, matrix: Tensor, target: Tensor) -> None:
        self._matrix = matrix
        self.target = target

    def matrix(self) -> Tensor:
        """Tensor of shape `(K, P)`."""
        return self._matrix

    def magnitudes(self) -> Tensor:
        """How large the K gradients are at most, of shape `(K,)`."""
        # Both ends, since `abs` would write a tensor of that size.
        return ops.maximum(ops.max(self._matrix, axis=1), -ops.min(self._matrix, axis=1))

    def gramian(self, units: Tensor) -> Tensor:
        """Inner products of the K gradients, each divided by its unit.

        Args:
            units: float32 or float64 tensor of shape `(K,)`, not below
                `magnitudes()`.

        Returns:
            Tensor of shape `(K, K)`, in the dtype of the units.
        """
        rows = ops.cast(self._matrix, units.dtype) / units[:, None]
        return ops.matmul(rows, ops.transpose(rows))

    def combine(self, weights: Tensor) -> Tensor:
        """Weighted sum of the K gradients, in the shape of the target."""
        # Not in half precision, which does not hold every weight.
        dtype = "float64" if self._matrix.dtype == "float64" else "float32"
        combined = ops.matmul(ops.cast(weights, dtype)[None, :], ops.cast(self._matrix, dtype))
        return ops.reshape(ops.cast(combined, self._matrix.dtype), ops.shape(self.target))


def split(direction: Tensor, targets: Sequence[keras.Variable], axis: int = 0) -> list[Tensor]:
    """Cuts a tensor along an axis into the shapes and dtypes of some targets."""
    ends = list(itertools.accumulate(math.prod(target.shape[axis:]) for target in targets))
    parts = ops.split(direction, ends[:-1], axis=axis) if len(ends) > 1 else [direction]
    return [ops.cast(ops.reshape(part, ops.shape(t)), t.dtype) for part, t in zip(parts, targets, strict=True)]


def _flat(gradient: Tensor | None, target: Tensor) -> Tensor:
    shape = tuple(target.shape)
    if gradient is None:
        return ops.zeros_like(ops.reshape(target, (-1,)))
    # The size is said, since XLA forgets the shape of sparse gradients that become dense.
    return ops.reshape(core.dense(gradient), (-1 if None in shape else math.prod(shape),))
