"""Task gradients of a dense kernel on TensorFlow, kept as their factors: inner products cost less from these."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_mtl._types import Tensor

_SMALLEST = 128  # examples: below this the products are too small to be worth a branch


def factored(gradients: Sequence[Tensor | None], target: Tensor) -> DenseKernelRows | None:
    """The task gradients of a dense layer's kernel as their factors.

    A graph tells how a tensor comes about. What a product would cost is not
    spent when nothing takes it: the graph leaves it out.

    Args:
        gradients: List of K gradients, `None` where a task does not reach the
            target.
        target: The variable or tensor.

    Returns:
        `DenseKernelRows` where each gradient is a product `A^T D_k` and the
        factors are worth it; else `None`.
    """
    if tf.executing_eagerly() or not all(isinstance(g, tf.Tensor) for g in gradients):
        return None
    if not all(g.op.type == "MatMul" and g.op.get_attr("transpose_a") for g in gradients):
        return None
    if any(g.dtype != tf.float32 or g.op.get_attr("transpose_b") for g in gradients):
        return None
    inputs, deltas = zip(*(g.op.inputs for g in gradients), strict=True)
    if any(a is not inputs[0] for a in inputs):
        return None
    rows = DenseKernelRows(inputs[0], list(deltas), target)
    return None if rows.narrow is False else rows


class DenseKernelRows:
    """K task gradients of a dense layer's kernel, kept as their factors.

    Task k's gradient is `A^T D_k`, `A` being the layer's inputs and `D_k` the
    gradient of task k's loss with respect to its outputs. With batches that
    are narrower than the layer, K such products cost more than what is wanted
    of them:

    `<A^T D_k, A^T D_l> = <A A^T D_k, D_l>`  and  `sum_k w_k A^T D_k = A^T sum_k w_k D_k`

    It has the methods of `task_gradients.Rows`.

    Args:
        inputs: Tensor of shape `(rows, n)`.
        deltas: List of K tensors of shape `(rows, m)`.
        target: The kernel, of shape `(n, m)`.
    """

    def __init__(self, inputs: Tensor, deltas: Sequence[Tensor], target: keras.Variable) -> None:
        self.inputs = inputs
        self.deltas = deltas
        self.target = target
        self._stacked = tf.reshape(tf.stack(deltas), [len(deltas), -1])
        n, m = target.shape
        # Multiplications: rows rows (n + K m) and rows n m for the sum in the one way, K rows n m in the other.
        self.limit = (len(deltas) - 1) * n * m // (n + len(deltas) * m)
        rows = inputs.shape[0]
        if self.limit < _SMALLEST:
            self.narrow = False
        elif rows is None:
            self.narrow = tf.shape(inputs)[0] < self.limit
        else:
            self.narrow = rows < self.limit

    def matrix(self) -> Tensor:
        """Tensor of shape `(K, P)`."""
        products = [tf.matmul(self.inputs, delta, transpose_a=True) for delta in self.deltas]
        return tf.stack([tf.reshape(product, [-1]) for product in products])

    def magnitudes(self) -> Tensor:
        """About how large the K gradients are, float32 of shape `(K,)`."""
        of_inputs, of_deltas = self._sizes()
        return of_inputs * of_deltas

    def gramian(self, units: Tensor) -> Tensor:
        """Inner products of the K gradients, each divided by its unit, float32 of shape `(K, K)`."""
        units = tf.cast(units, tf.float32)
        if self.narrow is True:
            return self._through_examples(units)
        return tf.cond(self.narrow, lambda: self._through_examples(units), lambda: self._through_products(units))

    def _through_examples(self, units: Tensor) -> Tensor:
        of_inputs, of_deltas = self._sizes()
        inputs = self.inputs / of_inputs
        examples = tf.matmul(inputs, inputs, transpose_b=True)
        # First the one ratio, then the other: each is of numbers of about the same size.
        flat = self._stacked * (1.0 / of_deltas * (of_inputs * of_deltas / units))[:, None]
        deltas = tf.reshape(flat, [len(self.deltas), -1, self.target.shape[1]])
        return tf.matmul(tf.reshape(tf.matmul(examples[None], deltas), tf.shape(flat)), flat, transpose_b=True)

    def _through_products(self, units: Tensor) -> Tensor:
        matrix = self.matrix() / units[:, None]
        return tf.matmul(matrix, matrix, transpose_b=True)

    def _sizes(self) -> tuple[Tensor, Tensor]:
        return _or_one(_largest(tf.reshape(self.inputs, [1, -1]))[0]), _or_one(_largest(self._stacked))

    def combine(self, weights: Tensor) -> Tensor:
        """Weighted sum of the K gradients, in the shape of the target."""
        delta = tf.linalg.matvec(self._stacked, tf.cast(weights, self._stacked.dtype), transpose_a=True)
        return tf.matmul(self.inputs, tf.reshape(delta, tf.shape(self.deltas[0])), transpose_a=True)


def _largest(rows: Tensor) -> Tensor:
    """The largest absolute value of each row. Both ends, since `abs` would write a tensor of that size."""
    return tf.maximum(tf.reduce_max(rows, axis=1), -tf.reduce_min(rows, axis=1))


def _or_one(size: Tensor) -> Tensor:
    return tf.where(size > 0, size, tf.ones_like(size))
