"""One quadratic program on a unit-diagonal Gramian: a few cheap steps first, care where they do not do."""

from keras import ops

from keras_mtl.weighting.quadratic import SLACK, nonnegative_qp, positive

# Keeps elimination from dividing by 0 where gradients are dependent; far below the accuracy that is asked for.
RIDGE = 1e-12
ACCURACY = 1e-11
STEPS = 6


def solve_program(cosines, program):
    """Minimises `x^T M x / 2 + q^T x` over `x >= 0`, with M and q made of a Gramian.

    Where the gradients are independent a few changes of the active set end at the solution, which
    its own optimality conditions show. Only where they do not, eigenvalues are taken and the program
    goes to `nonnegative_qp`.

    Args:
        cosines: float64 tensor of shape `(K, K)`, from `unit_diagonal`.
        program: Function from cosines to the tuple `(M, q)` of float64 tensors of shapes `(K, K)`
            and `(K, 1)`.

    Returns:
        float64 tensor of shape `(K,)`.

    Example:

    >>> from keras_mtl.weighting.one_program import solve_program
    >>> solve_program(np.eye(2), lambda cosines: (cosines, np.array([[-1.0], [2.0]]))).numpy().round(6).tolist()
    [1.0, 0.0]
    """

    def careful():
        semidefinite, proximal = positive(cosines)
        matrix, linear = program(semidefinite)
        return ops.transpose(nonnegative_qp(matrix, ops.transpose(linear), proximal))

    x, solved = _few_steps(*program(cosines))
    return ops.cond(solved, lambda: x, careful)[:, 0]


def _few_steps(matrix, linear):
    """A solution, if all wrong variables changing sides at once leads to it, and whether it does."""
    # Columns throughout: half of the time goes to what is done once per operation, not per number.
    size = matrix.shape[0]
    eye, zeros = ops.eye(size, dtype="float64"), ops.zeros((size, 1), dtype="float64")
    regular = matrix + RIDGE * eye

    def change(free):
        pairs = ops.logical_and(free, ops.transpose(free))
        x = ops.solve(ops.where(pairs, regular, eye), ops.where(free, -linear, zeros))
        wrong = ops.where(free, x, ops.matmul(matrix, x) + linear) < -SLACK * (1.0 + ops.sum(ops.abs(x)))
        return x, ops.logical_xor(free, wrong), ops.any(wrong)

    def body(step, x, free, wrong):
        return step + 1, *change(free)

    def unfinished(step, x, free, wrong):
        return ops.logical_and(wrong, step < STEPS)

    # The first step is often the only one, and a loop that does not start costs less.
    state = (ops.ones((), dtype="int32"), *change(linear < 0))
    _, x, free, wrong = ops.while_loop(unfinished, body, state)
    slope = ops.where(free, ops.abs(ops.matmul(matrix, x) + linear), zeros)
    exact = ops.max(slope) <= ACCURACY * (1.0 + ops.sum(ops.abs(x)))
    return ops.maximum(x, 0.0), ops.logical_and(exact, ops.logical_not(wrong))
