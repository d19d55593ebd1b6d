"""ConFIG: a conflict-free direction with equal angles and the projected length."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._scaling import is_stationary, pseudo_solve, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("config")
class ConFIG(GramianWeighting):
    r"""The direction with the same angle to every task gradient, as long as their projections on it.

    With U the task gradients divided by their norms, the equation is

    ```math
    u = \frac{U^+ \mathbf{1}}{\|U^+ \mathbf{1}\|}, \quad d = \Big( \sum_k g_k \cdot u \Big) u
    ```

    As `U^+ = U^T (U U^T)^+` it is a combination of the task gradients, and its weights are a
    function of the Gramian alone.

    Scale: sum-like; for identical gradients the direction is their sum. Linear under row scaling.

    Degenerate gradients: tasks with a zero gradient are left out (weight 0), duplicate gradients
    count once for the angle; where no common direction exists (opposite gradients) all weights are 0.

    Args:
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Example:

    >>> weighting = keras_mtl.weighting.ConFIG()
    >>> np.round(weighting.solve(np.array([[9.0, 0.0], [0.0, 1.0]])), 4).tolist()
    [0.6667, 2.0]

    References:

    - Liu, Chu and Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural
      Networks", ICLR 2025, arXiv:2408.11104.

    Deviations: none. `MConFIG` is its momentum variant.
    """

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        return equal_angles(gramian, present)


def equal_angles(gramian: Tensor, present: Tensor | None = None) -> Tensor:
    """ConFIG's weights of one Gramian, as `ConFIG.solve` gives them."""
    cosines, norms, alive, present = unit_diagonal(gramian, present)
    solution = pseudo_solve(cosines, alive, ops.ones_like(norms))
    projections = ops.matmul(cosines, solution[:, None])[:, 0]
    squared = ops.sum(solution * projections)
    usable = ops.logical_and(squared > 0, ops.logical_not(is_stationary(cosines, solution)))
    squared = ops.where(usable, squared, 1.0)
    # sum_j ||g_j|| p_j / ||g_k||, divided before it is summed so that it cannot overflow.
    ratios = ops.where(alive[None, :], norms[None, :] / norms[:, None], 0.0)
    length = ops.sum(ratios * projections[None, :], axis=1)
    return ops.where(ops.logical_and(usable, alive), length * solution / squared, 0.0)
