"""Damped Newton method for proportionally fair combinations (Nash-MTL, FairGrad)."""

from keras import ops

from keras_mtl.weighting.scaling import is_stationary

TOLERANCE = 1e-12
MAX_STEPS = 60
# A larger error than this means that there is no solution.
SOLVED = 1e-9


def proportional_fair(cosines, sizes, power):
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
    eye = ops.eye(count, dtype="float64")

    def parts(y):
        left = ops.matmul(cosines, (sizes * y)[:, None])[:, 0]
        right = sizes * y ** (-power)
        # Relative to the parts of the left side too: where they cancel, rounding hides the rest.
        error = ops.max(ops.abs(left - right) / (right + 1e-4 * ops.sum(sizes * y)))
        return left - right, error

    def unfinished(step, y, error):
        going = ops.logical_and(step < MAX_STEPS, error > TOLERANCE)
        return ops.logical_and(going, ops.logical_not(is_stationary(cosines, sizes * y)))

    def body(step, y, error):
        residual, _ = parts(y)
        hessian = cosines + eye * (power * y ** (-power - 1.0) + 1e-14)
        change = -ops.solve(hessian, residual[:, None])[:, 0] / (sizes * y)
        # The curvature changes by the power p + 1 of the relative change of y, hence the damping;
        # a factor of at least 1 keeps y positive.
        change = change / (1.0 + max(1.0, 0.5 * (power + 1.0)) * ops.max(ops.abs(change)))
        y = y * (1.0 + change)
        return step + 1, y, parts(y)[1]

    y = ops.ones((count,), dtype="float64")
    _, y, error = ops.while_loop(unfinished, body, (ops.zeros((), dtype="int32"), y, parts(y)[1]))
    return y, error
