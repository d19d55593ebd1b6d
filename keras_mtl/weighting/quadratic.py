"""Quadratic programs on unit-diagonal Gramians, solved exactly by changing active sets."""

from keras import ops

RIDGE = 1e-12
TOLERANCE = 1e-13
BLOCK_TRIALS = 3


def ridge(step, size):
    """Diagonal that keeps a singular Gramian solvable.

    It is far below the accuracy asked for, and grows a thousandfold every `size + 10` solves: a
    Gramian that float32 rounding made indefinite may have no solution with the smaller one.
    """
    return RIDGE * 1000.0 ** ops.cast(ops.minimum(step // (size + 10), 3), "float64")


def solve_free(matrix, free, right, diagonal):
    """Solves `(matrix + diagonal I) x = right` over the free variables, with the others at 0.

    Args:
        matrix: float64 tensor of shape `(K, K)`.
        free: Boolean tensor of shape `(..., K)`.
        right: float64 tensor of shape `(..., K, R)`.
        diagonal: float64 scalar.

    Returns:
        float64 tensor of shape `(..., K, R)`.
    """
    mask = ops.cast(free, "float64")
    eye = ops.eye(matrix.shape[0], dtype="float64")
    masked = matrix * mask[..., :, None] * mask[..., None, :] + eye * (1.0 - mask + diagonal)[..., None, :]
    return ops.solve(masked, right * mask[..., :, None])


def exchange(free, wrong, best, trials):
    """One change of active set, for each problem of a batch.

    All wrong variables change sides while that lowers their number; after `BLOCK_TRIALS` changes
    in vain only the last one does (Murty's rule), which ends after finitely many steps.

    Args:
        free: Boolean tensor of shape `(B, K)`.
        wrong: Boolean tensor of shape `(B, K)`: free variables below 0 and others with a negative slope.
        best: int32 tensor of shape `(B,)`: fewest wrong variables so far.
        trials: int32 tensor of shape `(B,)`: changes in vain still allowed.

    Returns:
        Tuple `(free, best, trials)`.
    """
    count = ops.sum(ops.cast(wrong, "int32"), axis=-1)
    better = count < best
    block = ops.logical_or(better, trials > 0)
    size = wrong.shape[-1]
    places = ops.where(wrong, ops.arange(1, size + 1, dtype="int32"), 0)
    last = ops.logical_and(wrong, places == ops.max(places, axis=-1, keepdims=True))
    changed = ops.where(block[:, None], wrong, last)
    return (
        ops.logical_xor(free, changed),
        ops.minimum(best, count),
        ops.where(better, BLOCK_TRIALS, ops.maximum(trials - 1, 0)),
    )


def nonnegative_qp(matrix, linear):
    """Minimises `x^T M x / 2 + q^T x` over `x >= 0`, for several q at once.

    Block principal pivoting: each step solves the linear system of the variables taken to be
    positive and moves those of the wrong sign to the other side. A handful of steps is typical and
    the result is exact to rounding, however close to the boundary.

    Args:
        matrix: float64 tensor of shape `(K, K)` with unit diagonal, positive semi-definite.
        linear: float64 tensor of shape `(B, K)`, the linear terms q.

    Returns:
        float64 tensor of shape `(B, K)`.

    References:

    - Judice and Pires, "A block principal pivoting algorithm for large-scale strictly monotone
      linear complementarity problems", 1994.
    """
    batch, size = linear.shape
    limit = 4 * (size + 10)

    def unfinished(step, free, best, trials, x, open_):
        return ops.logical_and(open_, step < limit)

    def body(step, free, best, trials, x, open_):
        x = solve_free(matrix, free, -linear[:, :, None], ridge(step, size))[:, :, 0]
        slope = ops.matmul(x, matrix) + linear
        slack = TOLERANCE * (1.0 + ops.sum(ops.abs(x), axis=-1, keepdims=True))
        wrong = ops.where(free, x < -slack, slope < -slack)
        free, best, trials = exchange(free, wrong, best, trials)
        return step + 1, free, best, trials, x, ops.any(wrong)

    state = (
        ops.zeros((), dtype="int32"),
        linear < 0,
        ops.full((batch,), size + 1, dtype="int32"),
        ops.full((batch,), BLOCK_TRIALS, dtype="int32"),
        ops.zeros((batch, size), dtype="float64"),
        ops.ones((), dtype="bool"),
    )
    x = ops.while_loop(unfinished, body, state)[4]
    return ops.maximum(x, 0.0)
