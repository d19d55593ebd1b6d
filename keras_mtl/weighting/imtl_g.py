"""IMTL-G: a direction with equal projections on all task gradients."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._scaling import pseudo_solve, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("imtl_g")
class IMTLG(GramianWeighting):
    r"""Weights for which the direction makes the same angle with every task gradient.

    The equation is, with weights that sum to 1,

    ```math
    d \cdot \frac{g_j}{\|g_j\|} = d \cdot \frac{g_k}{\|g_k\|} \quad \text{for all } j, k
    ```

    With `C` the matrix of cosines, the solution is `w = v / sum(v)`, `v_k = u_k / ||g_k||`, `u =
    C^+ 1`: of all u that minimise `||C u - 1||`, the shortest. The pseudo-inverse is that of the
    cosines and not of the Gramian, so that its rank, and what is minimised, do not depend on the
    losses' scales.

    Linearly independent gradients have `C u = 1`: the direction makes the same angle with each. Where
    they are dependent there is in general no such direction among their combinations, and the angles
    differ: the projections `d . g_k / ||g_k||` are, up to a common factor, those of the vector of ones
    onto the range of C, the nearest to equal ones in the sense of least squares.

    Scale: mean-like, the weights sum to 1. Weights may be negative: for gradients of very different
    norms the common projection itself can be negative, as the paper's equation allows.

    Degenerate gradients: tasks with a zero gradient are left out (weight 0), duplicate gradients
    get equal shares; where v sums to 0 (opposite gradients) all weights are 0.

    Args:
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Example:

    >>> weighting = keras_mtl.weighting.IMTLG()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.5923, 0.4077]

    References:

    - Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, openreview IMPnRXEWpvr.

    Deviations: the paper inverts a (K-1) x (K-1) matrix of gradient differences; the form above is
    the same solution where gradients are independent, and defined where they are not, where that
    matrix is singular.
    """

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        shortest = ops.min(ops.where(alive, norms, ops.max(norms)))
        solution = pseudo_solve(cosines, alive, ops.ones_like(norms)) * shortest / norms
        total = ops.sum(solution)
        usable = ops.abs(total) > 1e-12 * ops.sum(ops.abs(solution))
        return ops.where(usable, solution / ops.where(usable, total, 1.0), 0.0)
