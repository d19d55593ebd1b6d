"""CAGrad: the best worst-case improvement near the mean gradient."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from keras import ops

from keras_mtl._checks import check_boolean, check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._present import equal_shares
from keras_mtl.weighting._quadratic import BLOCK_TRIALS, SLACK, exchange, semidefinite_part, solve_free
from keras_mtl.weighting._scaling import STATIONARY_TOLERANCE, is_stationary, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register

# Keeps singular Gramians solvable; also the relative error of the slopes.
RIDGE = 1e-9


@register("cagrad")
class CAGrad(GramianWeighting):
    r"""The direction within a ball around the mean gradient that helps the worst task most.

    With the mean gradient `g_0`, the direction is

    ```math
    d = \arg\max_{\|d - g_0\| \le c \|g_0\|} \; \min_k \; d \cdot g_k
    ```

    The solution is `d = g_0 + c ||g_0|| g_w / ||g_w||` with `g_w` the convex combination that
    minimises `g_w . g_0 + c ||g_0|| ||g_w||`.

    `c = 0` is the mean gradient; for `c >= 1` the direction conflicts with no task; for large c it
    turns to MGDA's.

    Scale: mean-like; `||d|| <= (1 + c) ||g_0||`. Without rescaling d grows with c.

    Degenerate gradients: a present task with a zero gradient gets `1 / K` and affects no other.
    Where the inner combination `g_w` is 0 (Pareto stationary) all weights are 0; where `g_0` is 0
    they are `1 / K`.

    Args:
        c: Float. Radius of the ball relative to `||g_0||`, at least 0. Defaults to `0.5`.
        rescale: Boolean. Divide the weights by `1 + c^2`. Defaults to `False`.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `c` is negative.

    Example:

    >>> weighting = keras_mtl.weighting.CAGrad(c=0.5)
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.7041, 0.5]

    References:

    - Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning", 2021, arXiv:2110.14048.

    Deviations: the official code divides the direction by `1 + c^2` by default (`rescale=True`
    here), the paper does not. It calls SciPy's SLSQP; here the multiplier of the worst task is found
    by Newton's method on active sets, to rounding.
    """

    def __init__(
        self,
        c: float = 0.5,
        rescale: bool = False,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        self.c = check_number(c, "c", least=0)
        self.rescale = check_boolean(rescale, "rescale")

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        shares = equal_shares(present)
        if self.c > 0:
            shortest = ops.min(ops.where(alive, norms, ops.max(norms)))
            largest = ops.max(ops.where(alive, norms, shortest))
            extra = self._extra(cosines, shares * norms / largest, shortest / norms, alive)
            stationary = ops.logical_and(ops.any(extra > 0), is_stationary(cosines, extra))
            shares = ops.where(stationary, 0.0, shares + extra * largest / norms)
        return shares / (1.0 + self.c**2) if self.rescale else shares

    def _extra(self, cosines: Tensor, mean: Tensor, inverse: Tensor, alive: Tensor) -> Tensor:
        """What the unit gradients add to the mean gradient: z >= 0 with ||sum_k z_k u_k|| = c ||g_0||.

        With a_k = 1 / ||g_k||, z minimises ||g_0 + sum_k z_k u_k||^2 + (a . z - tau)^2 for the tau
        that gives it the right length, which grows with tau. On one active set z is linear in tau
        and the right tau is the root of a quadratic: Newton's method on these roots, between
        bounds that only get closer.
        """
        cosines, _ = semidefinite_part(cosines)
        mean = ops.where(alive, mean, 0.0)
        slope = ops.where(alive, ops.matmul(cosines, mean[:, None])[:, 0], 1.0)
        inverse = ops.where(alive, inverse, 0.0)
        radius = self.c * ops.sqrt(ops.maximum(ops.sum(mean * slope), 0.0))
        program = _Program(cosines, slope, inverse, cosines + inverse[:, None] * inverse[None, :], radius)
        z = program.solution(*program.bounds(alive))
        return ops.where(alive, ops.maximum(z, 0.0), 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "c": self.c, "rescale": self.rescale}


class _Program(NamedTuple):
    """What `CAGrad` solves: `min_z slope . z + ||sum_k z_k u_k||^2 / 2 + (inverse . z - tau)^2 / 2`, z >= 0.

    Attributes:
        cosines: float64 tensor of shape `(K, K)`, of the unit gradients u.
        slope: Tensor of shape `(K,)`, inner products of u and the mean.
        inverse: Tensor of shape `(K,)`, `1 / ||g_k||`.
        matrix: `cosines` and the outer product of `inverse`.
        radius: Scalar. The length that `sum_k z_k u_k` should have.
    """

    cosines: Any
    slope: Any
    inverse: Any
    matrix: Any
    radius: Any

    def bounds(self, alive: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The task that matters first, and where tau starts, with a bound below and one above."""
        ratios = ops.where(alive, self.slope / ops.where(alive, self.inverse, 1.0), 1e300)
        # Not by `argmin`, whose index has 64 bits where JAX has float64, and which it then cannot compile.
        places = ops.where(ratios == ops.min(ratios), ops.arange(self.inverse.shape[0], 0, -1, dtype="int32"), 0)
        first = ops.logical_and(places == ops.max(places), alive)
        share = ops.maximum(ops.sum(ops.where(first, self.inverse, 0.0)), 1e-300)
        # Nothing is added up to `low`; `start` would be right if only the worst task mattered.
        low = ops.sum(ops.where(first, self.slope, 0.0)) / share
        start = low + self.radius / share + self.radius * share
        # Beyond `high` the parts of z cancel: Pareto stationary.
        return first, start, low, start + self.radius / STATIONARY_TOLERANCE

    def solution(self, first: Tensor, start: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Z of shape `(K,)`, by Newton's method on tau and an active set that changes with it."""
        size = self.inverse.shape[0]
        limit = 12 * (size + 10)

        def unfinished(
            step: Tensor,
            free: Tensor,
            best: Tensor,
            trials: Tensor,
            tau: Tensor,
            low: Tensor,
            high: Tensor,
            z: Tensor,
            open_: Tensor,
        ) -> Tensor:
            return ops.logical_and(open_, step < limit)

        def body(
            step: Tensor,
            free: Tensor,
            best: Tensor,
            trials: Tensor,
            tau: Tensor,
            low: Tensor,
            high: Tensor,
            z: Tensor,
            open_: Tensor,
        ) -> tuple[Tensor, ...]:
            z, wrong, root, too_long, close = self._at(tau, free, high)
            settled = ops.logical_not(ops.any(wrong))
            high = ops.where(ops.logical_and(settled, too_long), tau, high)
            low = ops.where(ops.logical_or(ops.logical_not(settled), too_long), low, tau)
            root = ops.where(root < low - close, 0.5 * (low + high), ops.minimum(root, high))
            done = ops.logical_and(settled, ops.abs(root - tau) <= close)
            tau = ops.where(settled, root, tau)
            changed, fewest, left = exchange(free[None], wrong[None], best[None], trials[None])
            best = ops.where(settled, size + 1, fewest[0])
            return step + 1, changed[0], best, left[0], tau, low, high, z, ops.logical_not(done)

        counts = (ops.full((), size + 1, dtype="int32"), ops.full((), BLOCK_TRIALS, dtype="int32"))
        z = ops.zeros((size,), dtype="float64")
        state = (ops.zeros((), dtype="int32"), first, *counts, start, low, high, z, self.radius > 0)
        return ops.while_loop(unfinished, body, state)[7]

    def _at(self, tau: Tensor, free: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """On one active set: z, which signs are wrong, the tau of the right length, whether z is too long, rounding."""
        both = solve_free(self.matrix, free, ops.stack([self.inverse, -self.slope], axis=1), RIDGE)
        z = tau * both[:, 0] + both[:, 1]
        slope = ops.matmul(self.matrix, z[:, None])[:, 0] + self.slope - tau * self.inverse
        slack = SLACK * (1.0 + ops.sum(ops.abs(z)))
        wrong = ops.where(free, z < -slack - RIDGE, slope < -slack - RIDGE * ops.sum(ops.abs(z)))
        # The squared length of z(tau) is a tau^2 + 2 b tau + d on this active set.
        products = ops.matmul(ops.transpose(both), ops.matmul(self.cosines, both))
        a, b, d = products[0, 0], products[0, 1], products[1, 1]
        root = ops.sqrt(ops.maximum(b * b - a * (d - self.radius * self.radius), 0.0)) - b
        divisor = ops.where(a > 0, a, 1.0)
        root = ops.where(a > 0, root / divisor, high)
        close = 1e-14 * (ops.abs(tau) + ops.abs(b) / divisor)
        too_long = (a * tau + 2.0 * b) * tau + d > self.radius * self.radius
        return z, wrong, root, too_long, close
