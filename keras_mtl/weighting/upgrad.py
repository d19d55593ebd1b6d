"""UPGrad: every task gradient projected onto the dual cone, then averaged."""

from keras import ops

from keras_mtl.weighting._present import equal_shares
from keras_mtl.weighting._quadratic import nonnegative_qp, semidefinite_part
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.base import GramianWeighting
from keras_mtl.weighting.registry import register


@register("upgrad")
class UPGrad(GramianWeighting):
    """Mean of the task gradients after each is projected so that it conflicts with none.

    The equation is `d = sum_k P(g_k) / K`, where `P(g)` is the point nearest to g of the cone
    `{d : d . g_j >= 0 for all j}`. Its weights are `w = sum_k v_k` with `v_k = argmin v^T G v`
    over `v >= e_k / K`: K quadratic programs, solved together.

    The direction conflicts with no task and is linear under row scaling: multiplying a loss by a
    constant multiplies its term of the sum and nothing else. For two tasks it is half of PCGrad's.

    Scale: mean-like; without conflict every weight is `1 / K`.

    Degenerate gradients: a present task with a zero gradient gets `1 / K` and affects no other.
    Where gradients cancel (opposite, or Pareto stationary) the direction is 0.

    Args:
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        name: String. Name of the weighting.

    Example:

    >>> weighting = keras_mtl.weighting.UPGrad()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [1.1111, 0.7895]

    References:

    - Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv:2406.16232.

    Deviations: the authors' code adds 1e-4 of the mean diagonal to the Gramian, which breaks the
    guarantee where norms differ by a factor of 10 or more; here the programs are solved to rounding.
    """

    def solve(self, gramian, present=None):
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        # Program k in units of ||g_k|| / K: v_k = e_k + x, x = argmin x^T C x / 2 + C_k x over x >= 0.
        cosines, proximal = semidefinite_part(cosines)
        extra = nonnegative_qp(cosines, ops.where(alive[None, :], cosines, 1.0), proximal)
        extra = extra * ops.cast(ops.logical_and(alive[:, None], alive[None, :]), "float64")
        # Dividing by the norms first keeps a dead task's norm of 1 out of the products.
        weights = ops.sum(extra * norms[:, None] / norms[None, :], axis=0) + 1.0
        return weights * equal_shares(present)
