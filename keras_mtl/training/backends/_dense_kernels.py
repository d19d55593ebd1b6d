"""Task gradients of a dense kernel, kept as their factors: inner products cost less from these."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from keras_mtl._types import Tensor

_SMALLEST = 128  # examples: below this the products are too small to be worth a branch


class DenseKernelRows:
    """K task gradients of a dense layer's kernel, kept as their factors.

    Task k's gradient is `A^T D_k`, `A` being the layer's inputs and `D_k` the
    gradient of task k's loss with respect to its outputs. With batches that
    are narrower than the layer, K such products cost more than what is wanted
    of them:

    `<A^T D_k, A^T D_l> = <A A^T D_k, D_l>`  and  `sum_k w_k A^T D_k = A^T sum_k w_k D_k`

    It has the methods of `task_gradients.Rows`.

    Args:
        inputs: float32 tensor of shape `(..., n)`: what stands before n are
            the rows.
        deltas: List of K float32 tensors of shape `(..., m)`.
        target: The kernel, of shape `(n, m)`.
    """

    def __init__(self, inputs: Tensor, deltas: Sequence[Tensor], target: keras.Variable) -> None:
        n, m = target.shape
        self.target = target
        self.inputs = ops.reshape(inputs, (-1, n))
        self.deltas = [ops.reshape(delta, (-1, m)) for delta in deltas]
        self._stacked = ops.reshape(ops.stack(deltas), (len(deltas), -1))
        # Multiplications: rows rows (n + K m) and rows n m for the sum in the one way, K rows n m in the other.
        self.limit = (len(deltas) - 1) * n * m // (n + len(deltas) * m)
        # A boolean, or a tensor where the number of rows is not known yet.
        self.narrow = self.limit >= _SMALLEST and ops.shape(self.inputs)[0] < self.limit

    @classmethod
    def where_worth_it(
        cls, inputs: Sequence[Tensor], deltas: Sequence[Tensor], target: keras.Variable
    ) -> DenseKernelRows | None:
        """The rows of K pairs of factors, or `None` where the factors are not worth it.

        Args:
            inputs: List of K tensors of shape `(..., n)`. Others than the very
                same one are not worth it.
            deltas: List of K tensors of shape `(..., m)`.
            target: The kernel.
        """
        if any(one is not inputs[0] for one in inputs):
            return None
        rows = cls(inputs[0], list(deltas), target)
        return None if rows.narrow is False else rows

    def matrix(self) -> Tensor:
        """Tensor of shape `(K, P)`."""
        return ops.stack([ops.reshape(ops.matmul(ops.transpose(self.inputs), d), (-1,)) for d in self.deltas])

    def magnitudes(self) -> Tensor:
        """About how large the K gradients are, float32 of shape `(K,)`."""
        of_inputs, of_deltas = self._sizes()
        return of_inputs * of_deltas

    def gramian(self, units: Tensor) -> Tensor:
        """Inner products of the K gradients, each divided by its unit, float32 of shape `(K, K)`."""
        units = ops.cast(units, "float32")
        if self.narrow is True:
            return self._through_examples(units)
        return ops.cond(self.narrow, lambda: self._through_examples(units), lambda: self._through_products(units))

    def _through_examples(self, units: Tensor) -> Tensor:
        of_inputs, of_deltas = self._sizes()
        inputs = self.inputs / of_inputs
        examples = ops.matmul(inputs, ops.transpose(inputs))
        # First the one ratio, then the other: each is of numbers of about the same size.
        flat = self._stacked * (1.0 / of_deltas * (of_inputs * of_deltas / units))[:, None]
        deltas = ops.reshape(flat, (len(self.deltas), -1, self.target.shape[1]))
        return ops.matmul(ops.reshape(ops.matmul(examples[None], deltas), ops.shape(flat)), ops.transpose(flat))

    def _through_products(self, units: Tensor) -> Tensor:
        matrix = self.matrix() / units[:, None]
        return ops.matmul(matrix, ops.transpose(matrix))

    def _sizes(self) -> tuple[Tensor, Tensor]:
        return _or_one(_largest(ops.reshape(self.inputs, (1, -1)))[0]), _or_one(_largest(self._stacked))

    def combine(self, weights: Tensor) -> Tensor:
        """Weighted sum of the K gradients, in the shape of the target."""
        delta = ops.matmul(ops.cast(weights, self._stacked.dtype)[None, :], self._stacked)
        return ops.matmul(ops.transpose(self.inputs), ops.reshape(delta, ops.shape(self.deltas[0])))


def _largest(rows: Tensor) -> Tensor:
    """The largest absolute value of each row. Both ends, since `abs` would write a tensor of that size."""
    return ops.maximum(ops.max(rows, axis=1), -ops.min(rows, axis=1))


def _or_one(size: Tensor) -> Tensor:
    return ops.where(size > 0, size, ops.ones_like(size))
