"""Damped Newton method for proportionally fair combinations (Nash-MTL, FairGrad)."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._scaling import is_stationary

TOLERANCE = 1e-12
MAX_STEPS = 100
# A larger error than this means that there is no solution.
SOLVED = 1e-9


def proportional_fair(cosines: Tensor, sizes: Tensor, power: float) -> tuple[Tensor, Tensor]:
    """Solves `sum_j C_ij m_j y_j = m_i y_i^(-p)` for y > 0.

    The solution minimises the convex function `z^T C z / 2 - sum_i m_i^2 f(y_i)`, `z = m y`,
    `f'(y) = y^(-p)`. Every y_i is 1 where the gradients are orthogonal, whatever their norms.

    Args:
        cosines: float64 tensor of shape `(K, K)` with unit diagonal.
        sizes: float64 tensor of shape `(K,)`, the m, positive, at most 1.
        power: Float, the p, positive.

    Returns:
        Tuple `(y, error)`: a float64 tensor of shape `(K,)` and the largest relative error of the
        K equations, which stays large where no solution exists (gradients that cancel).
    """
    count = cosines.shape[0]
    # Keeps every power of y within float64.
    largest_log = 650.0 / (power + 1.0)
    eye = ops.eye(count, dtype="float64")

    def state(step: Tensor, log_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The step, log(y), z = m y, the residual of the equations and its relative size."""
        z = sizes * ops.exp(log_y)
        right = sizes * ops.exp(-power * log_y)
        residual = ops.matmul(cosines, z[:, None])[:, 0] - right
        # Relative to the parts of the left side too: where they cancel, rounding hides the rest.
        return step, log_y, z, residual, ops.max(ops.abs(residual) / (right + 1e-4 * ops.sum(z)))

    def unfinished(step: Tensor, log_y: Tensor, z: Tensor, residual: Tensor, error: Tensor) -> Tensor:
        going = ops.logical_and(step < MAX_STEPS, error > TOLERANCE)
        return ops.logical_and(going, ops.logical_not(is_stationary(cosines, z)))

    def body(step: Tensor, log_y: Tensor, z: Tensor, residual: Tensor, error: Tensor) -> tuple[Tensor, ...]:
        # The 1e-14 keeps the system solvable where gradients cancel and y grows without end.
        hessian = cosines + eye * (power * ops.exp(-(power + 1.0) * log_y) + 1e-14)
        change = -ops.solve(hessian, residual[:, None])[:, 0] / z
        # Steps are in log(y), which keeps y positive. A step lets y or y^(-p) grow e-fold at most;
        # what shrinks soon becomes negligible in its equation.
        longest = ops.maximum(ops.max(change), power * ops.max(-change))
        return state(step + 1, ops.clip(log_y + change / (1.0 + longest), -largest_log, largest_log))

    start = state(ops.zeros((), dtype="int32"), ops.zeros((count,), dtype="float64"))
    _, log_y, _, _, error = ops.while_loop(unfinished, body, start)
    return ops.exp(log_y), error
