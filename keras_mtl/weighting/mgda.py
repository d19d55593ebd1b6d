"""MGDA: the shortest combination of the task gradients."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._quadratic import solve_program
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("mgda")
class MGDA(GramianWeighting):
    r"""Weights of the minimum-norm point of the convex hull of the task gradients.

    ```math
    w = \arg\min_w \Big\| \sum_k w_k g_k \Big\|^2 \quad \text{with} \quad w_k \ge 0, \; \sum_k w_k = 1
    ```

    The direction `d` satisfies `d . g_k >= ||d||^2` for every task, so no task loss goes up in
    first order; `d = 0` means that the shared parameters are Pareto stationary.

    Scale: mean-like, the weights sum to 1. Gradients of very different norms make `d` follow the
    shortest one; `normalize="norm"` or `"loss+"` counters this, as in the paper.

    Degenerate gradients: a present task with a zero gradient is itself the shortest combination and
    takes the whole weight (shared equally if there are several), so `d = 0`. Duplicate gradients
    share their weight in an unspecified way that gives the same `d`.

    Args:
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Example:

    >>> weighting = keras_mtl.weighting.MGDA()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 6).tolist()
    [0.6, 0.4]

    References:

    - Desideri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", 2012.
    - Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", 2018, arXiv:1810.04650.

    Deviations: the official code runs at most 250 Frank-Wolfe steps and keeps weights within
    [0.001, 0.999] for two tasks; here the quadratic program is solved exactly, in
    closed form for two tasks and by active sets for more.
    """

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        solve = _closed_form if cosines.shape[0] == 2 else _active_sets
        weights = solve(cosines, norms, alive)
        zero = ops.cast(ops.logical_and(present > 0, ops.logical_not(alive)), "float64")
        zeros = ops.sum(zero)
        return ops.where(zeros > 0, zero / ops.maximum(zeros, 1.0), weights)


def _closed_form(cosines: Tensor, norms: Tensor, alive: Tensor) -> Tensor:
    """Two tasks: the point of the segment between two gradients that is nearest to 0."""
    a, b = ops.unstack(norms / ops.max(norms))
    product = a * b * cosines[0, 1]
    gap = a * a + b * b - 2.0 * product
    first = ops.where(gap > 0, ops.clip((b * b - product) / ops.where(gap > 0, gap, 1.0), 0.0, 1.0), 0.5)
    alone = ops.cast(alive, "float64")
    return ops.where(ops.all(alive), ops.stack([first, 1.0 - first]), alone)


def _active_sets(cosines: Tensor, norms: Tensor, alive: Tensor) -> Tensor:
    # With v_k = w_k ||g_k|| and a_k = 1 / ||g_k||, the minimiser of v^T C v over v >= 0, a . v = 1
    # is proportional to that of v^T C v + (a . v - 1)^2 over v >= 0, which always exists.
    shortest = ops.min(ops.where(alive, norms, ops.max(norms)))
    inverse = ops.where(alive, shortest / norms, 0.0)[:, None]

    def program(cosines: Tensor) -> tuple[Tensor, Tensor]:
        return cosines + inverse * ops.transpose(inverse), ops.where(alive[:, None], -inverse, 1.0)

    weights = solve_program(cosines, program) * inverse[:, 0]
    return weights / ops.maximum(ops.sum(weights), 1e-300)
