"""Unit-diagonal Gramians: the coordinates in which every solver works."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor

# Gramians come from float32 gradients: eigenvalues below this (times K) are rounding errors.
RANK_TOLERANCE = 1.2e-7
# A combination this much shorter than the sum of its parts' norms counts as zero: no descent direction is left.
STATIONARY_TOLERANCE = 1e-5


def unit_diagonal(gramian: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Splits a Gramian into cosines and norms.

    With `r` the gradient norms, the Gramian is `r r^T * cosines`. The cosines do not change
    when a loss is multiplied by a constant, so tolerances may be absolute in these coordinates.
    Tasks that are absent or have a zero gradient get the rows and columns of the identity. A Gramian
    that is not finite counts as the identity: solvers go through, and the step is lost anyway,
    because the gradients themselves are not finite.

    Args:
        gramian: Float tensor of shape `(K, K)`.
        present: Float tensor of shape `(K,)` or `None` for all tasks.

    Returns:
        Tuple `(cosines, norms, alive, present)` of tensors of shapes `(K, K)`, `(K,)`, `(K,)` and
        `(K,)`: float64, except `alive`, the boolean mask of the tasks that are present and have a
        gradient. Norms are 1 where not alive.
    """
    gramian = ops.stop_gradient(ops.cast(gramian, "float64"))
    eye = ops.eye(gramian.shape[0], dtype="float64")
    gramian = ops.where(ops.all(ops.isfinite(gramian)), gramian, eye)
    squares = ops.diagonal(gramian)
    present = ops.ones_like(squares) if present is None else ops.cast(present, "float64")
    alive = ops.logical_and(present > 0, squares > 0)
    norms = ops.sqrt(ops.where(alive, squares, 1.0))
    pairs = ops.logical_and(alive[:, None], alive[None, :])
    # Divided one side at a time: the product of two norms may overflow or vanish where neither does.
    cosines = ops.where(pairs, gramian / norms[:, None] / norms[None, :], 0.0)
    cosines = ops.where(eye > 0, 1.0, ops.clip(0.5 * (cosines + ops.transpose(cosines)), -1.0, 1.0))
    return cosines, norms, alive, present


def is_stationary(cosines: Tensor, coefficients: Tensor) -> Tensor:
    """Whether the combination of unit gradients with these coefficients is zero but for rounding."""
    squared_norm = ops.sum(coefficients * ops.matmul(cosines, coefficients[:, None])[:, 0])
    return squared_norm <= (STATIONARY_TOLERANCE * ops.sum(ops.abs(coefficients))) ** 2


def pseudo_solve(cosines: Tensor, alive: Tensor, right: Tensor) -> Tensor:
    """Least-norm solution of `cosines @ x = right` over the tasks that are alive.

    Args:
        cosines: float64 tensor of shape `(K, K)`, from `unit_diagonal`.
        alive: Boolean tensor of shape `(K,)`.
        right: float64 tensor of shape `(K,)`.

    Returns:
        float64 tensor of shape `(K,)`; 0 for the other tasks.
    """
    right = ops.where(alive, right, 0.0)
    values, vectors = ops.eigh(cosines)
    kept = values > RANK_TOLERANCE * cosines.shape[0] * ops.max(values)
    inverse = ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)
    projected = inverse * ops.matmul(right[None, :], vectors)[0]
    return ops.where(alive, ops.matmul(vectors, projected[:, None])[:, 0], 0.0)
