"""CAGrad: the best worst-case improvement near the mean gradient."""

import keras
from keras import ops

from keras_mtl.weighting.base import GramianWeighting
from keras_mtl.weighting.quadratic import BLOCK_TRIALS, TOLERANCE, exchange, ridge, solve_free
from keras_mtl.weighting.scaling import is_stationary, preference, unit_diagonal


@keras.saving.register_keras_serializable(package="keras_mtl")
class CAGrad(GramianWeighting):
    """The direction within a ball around the mean gradient that helps the worst task most.

    With `g_0 = sum_k g_k / K`, the equation is `d = argmax min_k d . g_k` over
    `||d - g_0|| <= c ||g_0||`. The solution is `d = g_0 + c ||g_0|| g_w / ||g_w||` with `g_w` the
    convex combination that minimises `g_w . g_0 + c ||g_0|| ||g_w||`.

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

    def __init__(self, c=0.5, rescale=False, reduction=None, normalize=None, every=1, name=None):
        super().__init__(reduction=reduction, normalize=normalize, every=every, name=name)
        if not c >= 0:
            raise ValueError(f"`c` should be at least 0. Received: c={c}")
        self.c = float(c)
        self.rescale = bool(rescale)

    def solve(self, gramian, present=None):
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        shares = preference(present)
        if self.c > 0:
            shortest = ops.min(ops.where(alive, norms, ops.max(norms)))
            largest = ops.max(ops.where(alive, norms, shortest))
            extra = self._extra(cosines, shares * norms / largest, shortest / norms, alive)
            stationary = ops.logical_and(ops.any(extra > 0), is_stationary(cosines, extra))
            shares = ops.where(stationary, 0.0, shares + extra * largest / norms)
        return shares / (1.0 + self.c**2) if self.rescale else shares

    def _extra(self, cosines, mean, inverse, alive):
        """What the unit gradients add to the mean gradient: z >= 0 with ||sum_k z_k u_k|| = c ||g_0||.

        For a given value mu of the worst task's improvement, z solves a quadratic program and grows
        with mu; on one active set it is linear in mu, and the mu of the right length is the root of
        a quadratic. Newton's method on these roots, kept between bounds that only get closer.
        """
        size = inverse.shape[0]
        mean = ops.where(alive, mean, 0.0)
        slope0 = ops.where(alive, ops.matmul(cosines, mean[:, None])[:, 0], 1.0)
        inverse = ops.where(alive, inverse, 0.0)
        radius2 = self.c**2 * ops.maximum(ops.sum(mean * slope0), 0.0)
        worst = ops.argmin(ops.where(alive, slope0 / ops.where(alive, inverse, 1.0), 1e300))
        first = ops.logical_and(ops.arange(size) == worst, alive)
        at = ops.cast(first, "float64")
        divisor = ops.maximum(ops.sum(at * inverse), 1e-300)
        low = ops.sum(at * slope0) / divisor
        high = low + ops.sqrt(radius2) / divisor
        close = 1e-11 * (ops.abs(low) + ops.abs(high))
        limit = 8 * (size + 10)

        def unfinished(step, free, best, trials, mu, low, high, z, open_):
            return ops.logical_and(open_, step < limit)

        def body(step, free, best, trials, mu, low, high, z, open_):
            right = ops.where(free[:, None], ops.stack([inverse, -slope0], axis=1), 0.0)
            both = solve_free(cosines, free, right, ridge(step // 2, size))
            z = mu * both[:, 0] + both[:, 1]
            slope = ops.matmul(cosines, z[:, None])[:, 0] + slope0 - mu * inverse
            slack = TOLERANCE * (1.0 + ops.sum(ops.abs(z)))
            wrong = ops.where(free, z < -slack, slope < -slack)
            settled = ops.logical_not(ops.any(wrong))
            # ||z(mu)||^2 = a mu^2 + 2 b mu + d on this active set.
            a, b = ops.sum(right[:, :1] * both, axis=0)
            d = ops.sum(right[:, 1] * both[:, 1])
            spread = ops.sqrt(ops.maximum(b * b - a * (d - radius2), 0.0))
            root = (spread - b) / ops.where(a > 0, a, 1.0)
            done = ops.logical_and(settled, ops.abs(root - mu) <= close)
            too_long = (a * mu + 2.0 * b) * mu + d > radius2
            high = ops.where(ops.logical_and(settled, too_long), mu, high)
            low = ops.where(ops.logical_and(settled, ops.logical_not(too_long)), mu, low)
            inside = ops.logical_and(root >= low - close, root <= high + close)
            mu = ops.where(settled, ops.where(inside, root, 0.5 * (low + high)), mu)
            changed, fewest, left = exchange(free[None], wrong[None], best[None], trials[None])
            best = ops.where(settled, size + 1, fewest[0])
            trials = ops.where(settled, BLOCK_TRIALS, left[0])
            return step + 1, changed[0], best, trials, mu, low, high, z, ops.logical_not(done)

        state = (
            ops.zeros((), dtype="int32"),
            first,
            ops.full((), size + 1, dtype="int32"),
            ops.full((), BLOCK_TRIALS, dtype="int32"),
            high,
            low,
            high,
            ops.zeros((size,), dtype="float64"),
            radius2 > 0,
        )
        z = ops.while_loop(unfinished, body, state)[7]
        return ops.where(alive, ops.maximum(z, 0.0), 0.0)

    def get_config(self):
        return {**super().get_config(), "c": self.c, "rescale": self.rescale}
