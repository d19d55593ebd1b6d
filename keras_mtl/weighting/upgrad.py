"""UPGrad: every task gradient projected onto the dual cone, then averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._preference import Preference
from keras_mtl.weighting._quadratic import nonnegative_qp, semidefinite_part
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("upgrad")
class UPGrad(Preference, GramianWeighting):
    r"""Mean of the task gradients after each is projected so that it conflicts with none.

    ```math
    d = \frac{1}{K} \sum_k P(g_k)
    ```

    Here `P(g)` is the point nearest to g of the cone `{d : d . g_j >= 0 for all j}`. Its weights
    are `w = sum_k v_k` with `v_k = argmin v^T G v` over `v >= e_k / K`: K quadratic programs,
    solved together.

    The direction conflicts with no task and is linear under row scaling: multiplying a loss by a
    constant multiplies its term of the sum and nothing else. For two tasks it is half of PCGrad's.

    With a preference p, which sums to 1, it is `d = sum_k p_k P(g_k)`: what conflicts with no task stays so.

    Scale: mean-like; without conflict every weight is `1 / K`, or the preference.

    Degenerate gradients: a present task with a zero gradient gets its share, `1 / K`, and affects no other.
    Where gradients cancel (opposite, or Pareto stationary) the direction is 0.

    Args:
        preference: Dict from tasks to numbers, or list of K numbers, at least 0; they are divided by their
            sum. Defaults to `None`, `1 / K` each.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `preference` has negative numbers, is all 0 or does not fit the tasks.

    Example:

    >>> weighting = keras_mtl.weighting.UPGrad()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [1.1111, 0.7895]

    References:

    - Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", 2024, arXiv:2406.16232.

    Deviations: the authors' code adds 1e-4 of the mean diagonal to the Gramian, which breaks the
    guarantee where norms differ by a factor of 10 or more; here the programs are solved to rounding.
    """

    def __init__(
        self,
        preference: Mapping[str, float] | Sequence[float] | None = None,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        self.set_preference(preference)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        # Program k in units of p_k ||g_k||: v_k = e_k + x, x = argmin x^T C x / 2 + C_k x over x >= 0.
        cosines, proximal = semidefinite_part(cosines)
        extra = nonnegative_qp(cosines, ops.where(alive[None, :], cosines, 1.0), proximal)
        extra = extra * ops.cast(ops.logical_and(alive[:, None], alive[None, :]), "float64")
        # Dividing by the norms first keeps a dead task's norm of 1 out of the products.
        shares = self.present_shares(present)
        return ops.sum(extra * norms[:, None] / norms[None, :] * shares[:, None], axis=0) + shares
