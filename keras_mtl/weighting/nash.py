"""Nash-MTL: the bargaining solution among the tasks."""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._newton import SOLVED, proportional_fair
from keras_mtl.weighting._scaling import is_stationary, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("nash")
class NashMTL(GramianWeighting):
    r"""Weights of the Nash bargaining solution: every task gains the inverse of its own weight.

    The equation is, elementwise,

    ```math
    G w = 1 / w, \quad w > 0
    ```

    The direction `d = sum_k w_k g_k` maximises `sum_k log(d . g_k)` over directions of one length,
    and conflicts with no task. It does not depend on the losses' scales at all: a loss times c gets
    its weight divided by c.

    Scale: free. `||d|| = sqrt(K)` whatever the gradients; `max_norm` then shortens it, so that with
    the default every step has length 1.

    Degenerate gradients: tasks with a zero gradient are left out (weight 0). Gradients that cancel
    (opposite, Pareto stationary) have no solution: the weights of the last step are used again,
    or 1 for tasks that never had one, shortened to `max_norm`, and the state variable `fallbacks`
    counts it.

    Args:
        max_norm: Float. Upper bound of `||d||`, 0 for none. Defaults to `1.0`.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `max_norm` is negative.

    Example:

    >>> weighting = keras_mtl.weighting.NashMTL(max_norm=0)
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.5915, 0.4071]

    References:

    - Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv:2202.01017.

    Deviations: the official code approximates the solution by a sequence of 20 convex programs and
    keeps the last weights when one fails; here the equivalent convex problem
    `w^T G w / 2 - sum_k log(w_k)` is solved by Newton's method to rounding. The official code first
    divides G by its Frobenius norm, so that `||d|| = sqrt(K ||G||_F)` before it is shortened to
    `max_norm`: its steps become shorter than that as gradients vanish, and here they do not. It
    multiplies the heads' gradients by the weights from before that shortening; here heads get their
    own task's plain gradient.
    """

    def __init__(
        self,
        max_norm: float = 1.0,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        self.max_norm = check_number(max_norm, "max_norm", least=0)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.previous_weights = self.add_state("previous_weights", (self.num_tasks,), 1.0)
        self.fallbacks = self.add_state("fallbacks", (), 0.0)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        if not self.built:
            self.build(gramian.shape[:1])
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        scaled, error = proportional_fair(cosines, ops.ones_like(norms), 1.0)
        coefficients = ops.where(alive, scaled, 0.0)
        solved = ops.logical_and(error <= SOLVED, ops.logical_not(is_stationary(cosines, coefficients)))
        failed = ops.logical_and(ops.any(alive), ops.logical_not(solved))
        used = ops.logical_and(alive, solved)
        weights = ops.where(used, coefficients / norms, 0.0)
        last = ops.cast(self.previous_weights, "float64")
        weights = ops.where(failed, ops.where(alive, last, 0.0), weights)
        self.previous_weights.assign(ops.cast(ops.where(used, weights, last), "float32"))
        self.fallbacks.assign_add(ops.cast(failed, "float32"))
        if self.max_norm > 0:
            parts = weights * norms
            length = ops.sqrt(ops.maximum(ops.sum(parts * ops.matmul(cosines, parts[:, None])[:, 0]), 0.0))
            weights = weights * ops.where(length > self.max_norm, self.max_norm / ops.maximum(length, 1e-300), 1.0)
        return weights

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_norm": self.max_norm}
