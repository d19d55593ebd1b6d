"""Quadratic programs on unit-diagonal Gramians, solved exactly by changing active sets.

`solve_program` is for one program, `nonnegative_qp` for several with one matrix; the others are their steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_mtl._types import Tensor

# Of one program: a ridge that keeps elimination from dividing by 0 where gradients are dependent, far below the
# accuracy that is asked for, and the changes of its active set before it takes eigenvalues.
RIDGE = 1e-12
STEPS = 6
# Weight of the proximal term: large enough for singular Gramians, small enough to converge in two or three rounds.
PROXIMAL = 1e-6
# Its weight where active sets go round in circles, on singular Gramians with many tasks, and how it falls again.
FIRM = 1e-2
FALL = 0.2
WELL_CONDITIONED = 1e-4
ROUNDS = 4
SLACK = 1e-12
ACCURACY = 2e-11
BLOCK_TRIALS = 3


def solve_program(cosines: Tensor, program: Callable[..., Any]) -> Tensor:
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

    >>> from keras_mtl.weighting._quadratic import solve_program
    >>> solve_program(np.eye(2), lambda cosines: (cosines, np.array([[-1.0], [2.0]]))).numpy().round(6).tolist()
    [1.0, 0.0]
    """

    def careful() -> Tensor:
        semidefinite, proximal = semidefinite_part(cosines)
        matrix, linear = program(semidefinite)
        return ops.transpose(nonnegative_qp(matrix, ops.transpose(linear), proximal))

    x, solved = _few_steps(*program(cosines))
    return ops.cond(solved, lambda: x, careful)[:, 0]


def _few_steps(matrix: Tensor, linear: Tensor) -> tuple[Tensor, Tensor]:
    """A solution, if all wrong variables changing sides at once leads to it, and whether it does."""
    # Columns throughout: half of the time goes to what is done once per operation, not per number.

    def change(free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = solve_free(matrix, free[:, 0], -linear, RIDGE)
        wrong = ops.where(free, x, ops.matmul(matrix, x) + linear) < -SLACK * (1.0 + ops.sum(ops.abs(x)))
        return x, ops.logical_xor(free, wrong), ops.any(wrong)

    def body(step: Tensor, x: Tensor, free: Tensor, wrong: Tensor) -> tuple[Tensor, ...]:
        return step + 1, *change(free)

    def unfinished(step: Tensor, x: Tensor, free: Tensor, wrong: Tensor) -> Tensor:
        return ops.logical_and(wrong, step < STEPS)

    # The first step is often the only one, and a loop that does not start costs less.
    state = (ops.ones((), dtype="int32"), *change(linear < 0))
    _, x, free, wrong = ops.while_loop(unfinished, body, state)
    slope = ops.where(free, ops.abs(ops.matmul(matrix, x) + linear), 0.0)
    exact = ops.max(slope) <= ACCURACY * (1.0 + ops.sum(ops.abs(x)))
    return ops.maximum(x, 0.0), ops.logical_and(exact, ops.logical_not(wrong))


def nonnegative_qp(matrix: Tensor, linear: Tensor, proximal: Tensor) -> Tensor:
    """Minimises `x^T M x / 2 + q^T x` over `x >= 0`, for several q at once.

    Block principal pivoting: each step solves the linear system of the variables taken to be
    positive and moves those of the wrong sign to the other side. A handful of steps is typical.
    So that singular matrices do not matter, a small multiple of `||x - last x||^2` is added and the
    program solved again from its own solution until that term's slope vanishes, `ROUNDS` times at
    most: directions in which the matrix itself is rounding error would take forever. A program whose
    active set goes round in circles gets a larger multiple, which falls again from solution to solution.

    Args:
        matrix: float64 tensor of shape `(K, K)` with a diagonal near 1, positive semi-definite.
        linear: float64 tensor of shape `(B, K)`, the linear terms q, in the range of the matrix.
        proximal: float64 scalar, the weight of the proximal term (see `semidefinite_part`).

    Returns:
        float64 tensor of shape `(B, K)`.

    References:

    - Judice and Pires, "A block principal pivoting algorithm for large-scale strictly monotone
      linear complementarity problems", 1994.
    """
    batch, size = linear.shape
    limit = 12 * (size + 10)

    def unfinished(
        step: Tensor,
        free: Tensor,
        best: Tensor,
        trials: Tensor,
        centre: Tensor,
        weight: Tensor,
        rounds: Tensor,
        open_: Tensor,
    ) -> Tensor:
        return ops.logical_and(ops.any(open_), step < limit)

    def body(
        step: Tensor,
        free: Tensor,
        best: Tensor,
        trials: Tensor,
        centre: Tensor,
        weight: Tensor,
        rounds: Tensor,
        open_: Tensor,
    ) -> tuple[Tensor, ...]:
        pulled = linear - weight[:, None] * centre
        x = solve_free(matrix, free, -pulled[:, :, None], weight[:, None])[:, :, 0]
        slope = ops.matmul(x, matrix) + weight[:, None] * x + pulled
        slack = SLACK * (1.0 + ops.sum(ops.abs(x), axis=-1, keepdims=True))
        wrong = ops.where(free, x < -slack, slope < -slack)
        count = ops.cast(ops.sum(ops.cast(wrong, "int32"), axis=-1), "int32")
        settled = count == 0
        x = ops.maximum(x, 0.0)
        change = weight * ops.max(ops.abs(x - centre), axis=-1)
        rounds = rounds + ops.cast(ops.logical_and(settled, weight <= proximal), "int32")
        accurate = ops.logical_or(change <= ACCURACY, rounds >= ROUNDS)
        open_ = ops.logical_and(open_, ops.logical_not(ops.logical_and(settled, accurate)))
        centre = ops.where(settled[:, None], x, centre)
        in_circles = ops.logical_and(count >= best, trials == 0)
        firmer = ops.logical_and(in_circles, ops.logical_and(weight > 0, weight < FIRM))
        weight = ops.where(settled, ops.maximum(FALL * weight, proximal), ops.where(firmer, FIRM, weight))
        free, best, trials = exchange(free, wrong, ops.where(firmer, size + 1, best), trials)
        # A new centre makes a new program.
        best = ops.where(settled, size + 1, best)
        return step + 1, free, best, trials, centre, weight, rounds, open_

    state = (
        ops.zeros((), dtype="int32"),
        linear < 0,
        ops.full((batch,), size + 1, dtype="int32"),
        ops.full((batch,), BLOCK_TRIALS, dtype="int32"),
        ops.zeros((batch, size), dtype="float64"),
        proximal * ops.ones((batch,), dtype="float64"),
        ops.zeros((batch,), dtype="int32"),
        ops.ones((batch,), dtype="bool"),
    )
    return ops.while_loop(unfinished, body, state)[4]


def semidefinite_part(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The positive semi-definite part of a Gramian that float32 rounding may have made indefinite.

    Args:
        matrix: float64 tensor of shape `(K, K)`, symmetric.

    Returns:
        Tuple `(matrix, proximal)`: the positive semi-definite part and the proximal weight that
        programs with it need, which is 0 where no selection of its rows is near singular.
    """
    values, vectors = ops.eigh(matrix)
    # Eigenvalues of a principal submatrix lie between those of the whole.
    proximal = ops.where(values[0] > WELL_CONDITIONED, ops.zeros_like(values[0]), PROXIMAL)
    return ops.matmul(vectors * ops.maximum(values, 0.0)[None, :], ops.transpose(vectors)), proximal


def solve_free(matrix: Tensor, free: Tensor, right: Tensor, ridge: float | Tensor) -> Tensor:
    """Solves `(matrix + ridge I) x = right` over the free variables, with the others at 0.

    Args:
        matrix: float64 tensor of shape `(K, K)`.
        free: Boolean tensor of shape `(..., K)`.
        right: float64 tensor of shape `(..., K, R)`.
        ridge: Float, or float64 tensor of shape `(..., 1)`.

    Returns:
        float64 tensor of shape `(..., K, R)`.
    """
    mask = ops.cast(free, "float64")
    eye = ops.eye(matrix.shape[0], dtype="float64")
    masked = matrix * mask[..., :, None] * mask[..., None, :] + eye * (1.0 - mask + ridge)[..., None, :]
    return ops.solve(masked, right * mask[..., :, None])


def exchange(free: Tensor, wrong: Tensor, best: Tensor, trials: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    count = ops.cast(ops.sum(ops.cast(wrong, "int32"), axis=-1), "int32")
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
