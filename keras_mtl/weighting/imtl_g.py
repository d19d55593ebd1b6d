"""IMTL-G: a direction with equal projections on all task gradients."""

import keras
from keras import ops

from keras_mtl.weighting.base import GramianWeighting
from keras_mtl.weighting.scaling import pseudo_solve, unit_diagonal


@keras.saving.register_keras_serializable(package="keras_mtl")
class IMTLG(GramianWeighting):
    """Weights for which the direction makes the same angle with every task gradient.

    The equation is `d . g_j / ||g_j|| = d . g_k / ||g_k||` for all j, k with `sum_k w_k = 1`. The
    solution is `w = v / sum(v)` with `v = G^+ sqrt(diag(G))`, and the pseudo-inverse is taken of the
    matrix of cosines, so that its rank does not depend on the losses' scales.

    Scale: mean-like, the weights sum to 1. Weights may be negative: for gradients of very different
    norms the common projection itself can be negative, as the paper's equation allows.

    Degenerate gradients: tasks with a zero gradient are left out (weight 0), duplicate gradients
    get equal shares; where v sums to 0 (opposite gradients) all weights are 0.

    Args:
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        name: String. Name of the weighting.

    Example:

    >>> weighting = keras_mtl.weighting.IMTLG()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.5923, 0.4077]

    References:

    - Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, openreview IMPnRXEWpvr.

    Deviations: the paper inverts a (K-1) x (K-1) matrix of gradient differences; the form above is
    the same solution and also defined for linearly dependent gradients.
    """

    def solve(self, gramian, present=None):
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        shortest = ops.min(ops.where(alive, norms, ops.max(norms)))
        solution = pseudo_solve(cosines, alive, ops.ones_like(norms)) * shortest / norms
        total = ops.sum(solution)
        usable = ops.abs(total) > 1e-12 * ops.sum(ops.abs(solution))
        return ops.where(usable, solution / ops.where(usable, total, 1.0), 0.0)
