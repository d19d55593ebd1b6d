"""FairGrad: alpha-fair gains among the tasks."""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._newton import proportional_fair
from keras_mtl.weighting._present import equal_shares
from keras_mtl.weighting._scaling import is_stationary, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("fairgrad")
class FairGrad(GramianWeighting):
    r"""Weights under which the tasks' gains are alpha-fair.

    The equation is, elementwise,

    ```math
    G w = w^{-1/\alpha}, \quad w > 0
    ```

    The direction maximises `sum_k (d . g_k)^(1 - alpha) / (1 - alpha)` over directions of one
    length, and conflicts with no task. `alpha = 0` is the mean gradient, 1 the solution of
    Nash-MTL, and large values approach the max-min fair one.

    Scale: free. Gradients times c give weights times `c^(-2 alpha / (1 + alpha))`.

    Degenerate gradients: tasks with a zero gradient are left out (weight 0). Where gradients cancel
    (opposite, Pareto stationary) no solution exists and all weights are 0.

    Args:
        alpha: Float. Fairness, at least 0. Defaults to `1.0`.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `alpha` is negative.

    Example:

    >>> weighting = keras_mtl.weighting.FairGrad(alpha=2.0)
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.4714, 0.3195]

    References:

    - Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, arXiv:2402.15638.

    Deviations: the official code runs SciPy's least squares on the equation itself, which fails for
    badly scaled gradients; here the equivalent convex problem is solved by Newton's method, to
    rounding for alpha between 0.1 and 10. Beyond, with gradient norms that differ a thousandfold, it
    may stop after 100 steps before it is there. The official code multiplies the direction by K,
    here it is not: with SGD its learning rate is K times as large in effect.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        self.alpha = check_number(alpha, "alpha", least=0)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        if self.alpha == 0:
            return equal_shares(present)
        power = 1.0 / self.alpha
        # w = t y, where t solves each task's equation on its own; z = ||g|| t y are the solver's unknowns.
        alone = norms ** (-2.0 / (1.0 + power))
        sizes = ops.where(alive, alone * norms, 0.0)
        largest = ops.max(sizes)
        sizes = ops.where(alive, sizes / ops.where(largest > 0, largest, 1.0), 1.0)
        scaled, _ = proportional_fair(cosines, sizes, power)
        coefficients = ops.where(alive, sizes * scaled, 0.0)
        solved = ops.logical_not(is_stationary(cosines, coefficients))
        return ops.where(ops.logical_and(alive, solved), alone * scaled, 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}
