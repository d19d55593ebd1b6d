"""Distances between the weights of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from keras_mtl._float64 import float64
from keras_mtl._types import Tensor

NORMALIZATIONS = ("laf", "tucker", "tt")


def l2_distance(weights: Sequence[Tensor]) -> Tensor:
    """Squared distances of all pairs: `sum_{i<j} ||W_i - W_j||^2`.

    Args:
        weights: List of K tensors of one shape, one weight of the K columns.

    Returns:
        Scalar.
    """

    @ops.custom_gradient
    def distance(*weights: Any) -> tuple[Tensor, Callable[..., Any]]:
        apart, factor = _apart(weights)

        # Written out, the gradient reads every weight half as often as the one that is derived of a product.
        def gradient(*args: Any, upstream: Tensor | None = None) -> Sequence[Tensor]:
            slope = 2.0 * factor * (args[0] if upstream is None else upstream)
            if len(apart) == 1:
                moved = slope * apart[0]
                return moved, -moved
            return [slope * difference for difference in apart]

        # Not `vdot`, which takes as long as the rest of this together.
        return factor * sum(ops.sum(ops.square(difference)) for difference in apart), gradient

    return distance(*map(ops.convert_to_tensor, weights))


def _apart(weights: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Differences whose squares, added up and times a factor, are the distance."""
    if len(weights) == 2:  # one difference in place of two from the mean
        return [weights[0] - weights[1]], 1.0
    # K sum_k ||W_k - mean||^2 is the same as the sum over pairs, and costs K terms instead of K^2. Its gradient is
    # 2 K (W_k - mean): what comes through the mean adds up to 0.
    mean = sum(weights) / len(weights)
    return [weight - mean for weight in weights], float(len(weights))


def trace_norm(matrix: Tensor) -> Tensor:
    """The sum of a matrix's singular values, with a gradient that stays finite.

    The gradient is `U V^T`. Singular values below 1e-6 of the largest one
    count as 0, in the value and in the gradient. They are found from the
    smaller one of `X X^T` and `X^T X`, in float64.

    Args:
        matrix: Float tensor of shape `(m, n)`.

    Returns:
        Scalar.

    Example:

    >>> from keras_mtl.layers._distances import trace_norm
    >>> round(float(trace_norm(np.arange(12.0).reshape(3, 4))), 4)
    24.3646
    """
    matrix = ops.convert_to_tensor(matrix)
    # <U V^T, X> is the trace norm, and U V^T, held fixed, its gradient.
    return ops.sum(_direction(matrix) * matrix)


@float64()
def _direction(matrix: Tensor) -> Tensor:
    """The product `U V^T` of a matrix, without gradient."""
    x = ops.stop_gradient(ops.cast(matrix, "float64"))
    if x.shape[0] > x.shape[1]:
        x = ops.transpose(x)
    values, vectors = ops.linalg.eigh(ops.matmul(x, ops.transpose(x)))
    kept = values > 1e-12 * ops.max(values)
    roots = ops.where(kept, 1 / ops.sqrt(ops.where(kept, values, ops.ones_like(values))), ops.zeros_like(values))
    direction = ops.matmul(vectors * roots, ops.matmul(ops.transpose(vectors), x))
    if matrix.shape[0] > matrix.shape[1]:
        direction = ops.transpose(direction)
    return ops.cast(ops.stop_gradient(direction), matrix.dtype)


def tensor_trace_norm(stacked: Tensor, normalization: str = "laf") -> Tensor:
    """The trace norm of a tensor of shape `(D_1, ..., D_N)`, tasks last.

    - `"laf"`, last axis flattened: that of the `K x (D_1 ... D_{N-1})` matrix.
    - `"tucker"`: mean over i of that of the `D_i x rest` matrices.
    - `"tt"`: mean over i of that of the `(D_1 ... D_i) x (D_{i+1} ... D_N)`
      matrices.

    Args:
        stacked: Tensor of shape `(..., K)`, one weight of the K columns.
        normalization: `"laf"`, `"tucker"` or `"tt"`. Defaults to `"laf"`.

    Returns:
        Scalar.
    """
    shape = tuple(stacked.shape)
    if normalization == "laf" or len(shape) == 1:
        return trace_norm(ops.reshape(stacked, (-1, shape[-1])))
    if normalization == "tucker":
        matrices = [ops.reshape(ops.moveaxis(stacked, i, 0), (shape[i], -1)) for i in range(len(shape))]
    else:
        rows = [1]
        for size in shape[:-1]:
            rows.append(rows[-1] * size)
        matrices = [ops.reshape(stacked, (count, -1)) for count in rows[1:]]
    return sum(map(trace_norm, matrices)) / len(matrices)
