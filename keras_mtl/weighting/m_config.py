"""M-ConFIG: ConFIG on the momenta of the task gradients, one of which is renewed at each step."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras import ops

from keras_mtl._checks import check_boolean, check_number
from keras_mtl._float64 import float64
from keras_mtl._types import Place, Shape, Tensor
from keras_mtl.weighting._present import divide
from keras_mtl.weighting.base import Update
from keras_mtl.weighting.config import equal_angles
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward

_EPSILON = 1e-8
_NEVER = 1e9  # steps since a turn that there was none of


@register("m_config")
class MConFIG(JacobianWeighting):
    """ConFIG's direction of running task gradients, of which each step renews one: one backward pass for any K.

    At step t it is the turn of the task `i` that had its last one longest ago. Its momentum moves,
    `m_i <- beta_1 * m_i + (1 - beta_1) * g_i`, and with the bias-corrected momenta of all tasks

    `c = ConFIG(m_1 / (1 - beta_1^(t_1)), ..., m_K / (1 - beta_1^(t_K)))`.

    The direction is `c / (sqrt(s / (1 - beta_2^t)) + 1e-8)`: the moving average s of squares is, as Adam's, of
    the gradient that would have moved a momentum from the last `c` to this one. It is a step of Adam's length,
    for the optimizer `SGD` without momentum. With `rescale=False` the direction is `c`.

    Where a model has shared features, the trunk takes one backward pass, and each head one of its own. Else
    there are K.

    State: K momenta of the shared parameters, two vectors of their size, and each task's last turn.

    Scale: that of an Adam step, entries of size 1; with `rescale=False` ConFIG's, sum-like.

    Degenerate gradients: as in `ConFIG`; where the momenta have no common direction the step is 0.

    Args:
        beta_1: Float, at least 0 and below 1. How much of a momentum is kept. Defaults to `0.9`.
        beta_2: Float, at least 0 and below 1. How much of the average of squares is kept. Defaults to `0.999`.
        rescale: Boolean. Whether the direction is divided by the root of the average of squares. `False`
            leaves that to the optimizer, such as `Adam(beta_1=0.0)`: the choice where heads are trained too,
            since they get their plain gradient. Defaults to `True`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If a number is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.MConFIG(rescale=False)
    >>> weighting.build((2, 2))
    >>> ones = np.ones(2, "float32")
    >>> for _ in range(2):  # nothing, until both tasks had their turn
    ...     direction, _ = weighting.direction(np.eye(2, dtype="float32"), ones, ones)
    ...     print(direction.numpy().round(4).tolist())
    [0.0, 0.0]
    [1.0, 1.0]

    References:
        - Liu, Chu and Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural
          Networks", ICLR 2025, arXiv:2408.11104.

    Deviations: the official code takes the tasks in order; so does this, and passes over absent tasks, whose
    momenta are left out of the step and stay. It takes no step until every task had a turn, here until every
    task of the batch had one. Heads, which the paper's networks do not have, get their own task's plain
    gradient at every step.
    """

    def __init__(
        self, beta_1: float = 0.9, beta_2: float = 0.999, rescale: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.beta_1 = check_number(beta_1, "beta_1", least=0, below=1)
        self.beta_2 = check_number(beta_2, "beta_2", least=0, below=1)
        self.rescale = check_boolean(rescale, "rescale")

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.momenta = self.add_state("momenta", tuple(input_shape))
        self.turns = self.add_state("turns", shape)
        self.since = self.add_state("since", shape, _NEVER)
        self.steps = self.add_state("steps", ())
        if self.rescale:
            self.pseudo_momentum = self.add_state("pseudo_momentum", (input_shape[1],))
            self.squares = self.add_state("squares", (input_shape[1],))

    def place(self, places: ModuleType, model: MultiTaskModel) -> Place:
        has_features = model.sharing.has_features(model.compiled_tasks.tasks)
        return (places.OneTask if has_features else places.Parameters)(model)

    def rule(self, gradients: Place, step: Forward) -> Update:
        """The update rule: one task's gradient is taken, and the direction is of all momenta."""
        turn = self._turn(step.present)
        direction, weights = self._move(turn, gradients.of_shared(turn), step.present)
        return Update({**gradients.heads(), **gradients.split(direction)}, weights)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        del losses
        turn = self._turn(present)
        return self._move(turn, ops.matmul(turn[None, :], jacobian)[0], present)

    def _turn(self, present: Tensor) -> Tensor:
        """1 for the present task that waits longest, the first of those that wait alike; 0 for the others."""
        waits = ops.where(present > 0, self.since.value, -1.0)
        return ops.one_hot(ops.argmax(waits), self.num_tasks, dtype="float32") * present

    def _move(self, turn: Tensor, gradient: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        momenta = self.momenta.value + turn[:, None] * (1.0 - self.beta_1) * (gradient[None, :] - self.momenta.value)
        turns = self.turns.value + turn
        self.momenta.assign(momenta)
        self.turns.assign(turns)
        self.since.assign(ops.where(turn > 0, 1.0, ops.where(present > 0, self.since.value + 1.0, self.since.value)))
        ready = ops.cast(
            ops.logical_and(ops.all(ops.logical_or(turns > 0, present == 0)), ops.any(present > 0)), "float32"
        )

        corrected = momenta / (1.0 - ops.power(self.beta_1, ops.maximum(turns, 1.0)))[:, None]
        largest = ops.max(ops.abs(corrected), axis=1, keepdims=True)
        units = divide(corrected, largest)
        with float64():
            units, sizes = ops.cast(units, "float64"), ops.cast(largest, "float64")
            gramian = ops.matmul(units, ops.transpose(units)) * sizes * ops.transpose(sizes)
            weights = ops.cast(equal_angles(gramian, present), "float32")
        weights = weights * ready * present
        combined = ops.matmul(weights[None, :], corrected)[0]
        if not self.rescale:
            return combined, weights

        steps = self.steps.value + ready
        since = ops.maximum(steps, 1.0)
        momentum = combined * (1.0 - ops.power(self.beta_1, since))
        pseudo = (momentum - self.beta_1 * self.pseudo_momentum.value) / (1.0 - self.beta_1)
        squares = self.beta_2 * self.squares.value + (1.0 - self.beta_2) * pseudo * pseudo
        self.pseudo_momentum.assign(ops.where(ready > 0, momentum, self.pseudo_momentum.value))
        self.squares.assign(ops.where(ready > 0, squares, self.squares.value))
        self.steps.assign(steps)
        root = ops.sqrt(squares / (1.0 - ops.power(self.beta_2, since)))
        return combined / (root + _EPSILON), weights

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "rescale": self.rescale}
