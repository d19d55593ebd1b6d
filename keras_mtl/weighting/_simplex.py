"""Steps on the probability simplex, inside the graph."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._present import divide, equal_shares


def project_to_simplex(point: Tensor, present: Tensor) -> Tensor:
    """Nearest point of the probability simplex over the present tasks.

    Solves `min ||x - point||` with `x >= 0`, `sum(x) = 1` and `x_k = 0` for
    absent tasks: `x = max(point - t, 0)`, where `t` is the largest of
    `(u_1 + ... + u_j - 1) / j` over `j` and `u` is `point` in falling order.

    Args:
        point: Float tensor of shape `(K,)`.
        present: Float tensor of shape `(K,)`.

    Returns:
        Float tensor of shape `(K,)`; all 0 where no task is present.

    Example:

    >>> from keras_mtl.weighting._simplex import project_to_simplex
    >>> project_to_simplex(np.array([0.6, 0.8, -1.0]), np.ones(3)).numpy().round(2).tolist()
    [0.4, 0.6, 0.0]

    References:
        - Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient projections
          onto the l1-ball for learning in high dimensions", 2008.
    """
    # The projection ignores a common shift, and only points less than 1 below
    # the highest are kept: so clipping at -2 is exact and tames huge inputs.
    point = ops.where(present > 0, point, -ops.cast(3e38, point.dtype))
    point = ops.maximum(point - ops.max(point), -2.0)
    point = ops.where(present > 0, point, -2.0)
    falling = ops.flip(ops.sort(point))
    ranks = ops.arange(1, point.shape[0] + 1, dtype=point.dtype)
    threshold = ops.max((ops.cumsum(falling) - 1.0) / ranks)
    return ops.maximum(point - threshold, 0.0) * present


def restrict(weights: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Splits simplex weights into the present tasks' share and their weights.

    An absent task keeps its weight, so the present ones move on a smaller
    simplex: the one of the mass that is left.

    Args:
        weights: Float tensor of shape `(K,)` on the simplex.
        present: Float tensor of shape `(K,)`.

    Returns:
        Tuple `(mass, inside)`: a scalar, and weights of shape `(K,)` that sum
        to 1 over the present tasks (equal where the mass is 0).
    """
    mass = ops.sum(weights * present)
    return mass, ops.where(mass > 0, divide(weights * present, mass), equal_shares(present))
