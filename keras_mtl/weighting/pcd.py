"""Priority-constrained descent: the primary task's gradient, and progress for every other task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._quadratic import solve_program
from keras_mtl.weighting._scaling import is_stationary, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register

# How far a constraint may be missed, relative to the parts that make up the direction.
_SLACK = 1e-7


@register("pcd")
class PCD(GramianWeighting):
    r"""The direction nearest to the primary task's gradient along which every other task gains.

    With `h_k = g_k / sqrt(v_k)`, `v_k` the bias-corrected moving average of `||g_k||^2`, and the primary task
    p, the equation is

    ```math
    d = \arg\min_d \|d - h_p\|^2 \quad \text{with} \quad d \cdot h_k \ge \tau \|h_k\|^2 \;\text{ for all tasks } k \ne p
    ```

    and the direction is `d`, as long as `g_p`. Every other task so gets at least the fraction `tau`
    of what a step along its own gradient would give it, whatever the losses' scales. It is one
    quadratic program: the primary gradient enters with weight 1, the others only as far as they
    have to.

    State: the moving averages, and each task's number of steps.

    Scale: that of the primary task's gradient.

    Degenerate gradients: where the primary task has no gradient, or is absent from the batch, all weights are 0
    and the shared parameters stay; other tasks with a zero gradient ask for nothing. Where no direction has
    what `tau` asks for (two opposite tasks besides the primary one), it is the primary gradient. With `tau=0`
    and a primary gradient that the others cancel, the direction is 0.

    Args:
        primary: String or `None`. Name of the primary task. Defaults to `None`, the first task.
        tau: Float from 0 to 1. Fraction of their own progress that the other tasks get; 0 keeps them from
            losing. Defaults to `0.02`.
        beta: Float, at least 0 and below 1. How much of the moving averages is kept. Defaults to `0.999`.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If there is no task named `primary`, or a number is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.PCD(tau=0.0)
    >>> np.round(weighting.solve(np.array([[1.0, -0.6], [-0.6, 1.0]])), 4).tolist()  # (1, 0.6) / 0.8
    [1.25, 0.75]

    References:

    - Varam and AlHajri, "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
      Multi-Objective Optimization", TMLR 2026, arXiv:2606.29521.

    Deviations: the authors' code adds 1e-8 to the moving averages, and so stops balancing scales where
    gradients are below 1e-4; here nothing is added, and the averages of each task are over its own steps. The
    program is solved by the active sets that the other quadratic programs here use, which end at the same
    direction as the authors' enumeration.
    """

    # An auxiliary task that the primary one does not hurt needs no weight.
    weights_may_vanish = True

    def __init__(
        self,
        primary: str | None = None,
        tau: float = 0.02,
        beta: float = 0.999,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        if primary is not None and not isinstance(primary, str):
            raise ValueError(f"`primary` should be a task's name or `None`. Received: primary={primary!r}")
        self.primary = primary
        self.tau = check_number(tau, "tau", least=0, most=1)
        self.beta = check_number(beta, "beta", least=0, below=1)
        self._tasks = None

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        super().set_tasks(tasks, kinds)
        if self.primary is not None and self.primary not in tasks:
            raise ValueError(f"`primary` should be one of the tasks {list(tasks)}. Received: primary={self.primary!r}")
        self._tasks = list(tasks)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.mean_squares = self.add_state("mean_squares", (self.num_tasks,))
        self.steps = self.add_state("steps", (self.num_tasks,))

    def _first(self) -> int:
        """Position of the primary task."""
        if self.primary is None:
            return 0
        if self._tasks is None:
            raise ValueError(
                "`primary` should be `None` where the tasks have no names; call `set_tasks` first. "
                f"Received: primary={self.primary!r}"
            )
        return self._tasks.index(self.primary)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        if not self.built:
            self.build(gramian.shape[:1])
        known = ops.all(ops.isfinite(gramian))
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        first = self._first()
        lengths = self._lengths(ops.where(alive, norms, 0.0), present * ops.cast(known, "float64"))
        primary = ops.arange(norms.shape[0]) == first
        other = ops.logical_and(alive, ops.logical_not(primary))
        # Lengths relative to the primary one's; where that has none the result is not used.
        asked = self.tau * lengths / ops.where(lengths[first] > 0, lengths[first], 1.0)

        # With unit gradients u, d / ||h_p|| = u_p + sum_k x_k u_k, x = argmin x^T C x / 2 + (C_p - asked) x, x >= 0.
        def program(cosines: Tensor) -> tuple[Tensor, Tensor]:
            pairs = ops.logical_and(other[:, None], other[None, :])
            matrix = ops.where(pairs, cosines, ops.eye(norms.shape[0], dtype="float64"))
            return matrix, ops.where(other, cosines[:, first] - asked, 1.0)[:, None]

        extra = ops.where(other, solve_program(cosines, program), 0.0)
        parts = extra + ops.cast(primary, "float64")
        gains = ops.matmul(cosines, parts[:, None])[:, 0] - asked
        missed = ops.any(ops.logical_and(other, gains < -_SLACK * ops.sum(parts)))
        cancelled = is_stationary(cosines, parts)
        squared = ops.sum(parts * ops.matmul(cosines, parts[:, None])[:, 0])
        scaled = parts / ops.sqrt(ops.where(squared > 0, squared, 1.0))
        if self.tau > 0:  # there is no such direction
            scaled = ops.where(ops.logical_or(missed, cancelled), ops.cast(primary, "float64"), scaled)
        else:
            scaled = ops.where(cancelled, 0.0, scaled)
        return ops.where(ops.logical_and(alive, alive[first]), scaled * (norms[first] / norms), 0.0)

    def _lengths(self, norms: Tensor, present: Tensor) -> Tensor:
        """Norms of the gradients over the root of their mean squares, which are moved on."""
        old, steps = ops.cast(self.mean_squares, "float64"), ops.cast(self.steps, "float64")
        # Of the size that float32 holds.
        squares = ops.clip(norms * norms, 0.0, 1e37)
        moved = ops.where(present > 0, self.beta * old + (1.0 - self.beta) * squares, old)
        steps = steps + present
        self.mean_squares.assign(ops.cast(moved, "float32"))
        self.steps.assign(ops.cast(steps, "float32"))
        corrected = moved / (1.0 - ops.power(ops.cast(self.beta, "float64"), ops.maximum(steps, 1.0)))
        # Squares that vanish in float32 come from gradients of one size, which is as good as any.
        safe = corrected > 0
        return ops.where(safe, norms / ops.sqrt(ops.where(safe, corrected, 1.0)), ops.cast(norms > 0, "float64"))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "primary": self.primary, "tau": self.tau, "beta": self.beta}
