"""Steps whose losses or gradients are not finite: raised, skipped or excluded by task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl._keras_private import layers_of, layers_within, micro_steps_of
from keras_mtl._types import Tensor
from keras_mtl.training.backends import core
from keras_mtl.training.faults import is_all_or_nothing
from keras_mtl.training.places import loss_is_scaled, sum_of

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class StepGuard:
    """Sees whether a training step's numbers are finite, and sets back what one that is not has changed.

    All is decided on the device: the host learns of it from a tracker, later.
    With `on_nonfinite="skip_step"` or `"skip_task"`, and with `"raise"` where a
    branch costs no wait, a step that is not let through leaves variables,
    optimizer, weighting state and the layers' statistics as they were. Else
    `"raise"` lets it through, and only tells: of losses here, and of what has
    become of the variables at the end of the epoch.

    Under dynamic loss scaling gradients overflow as a matter of course. Then
    the optimizer skips the step, and only the weighting state is set back here.

    Args:
        model: A compiled `MultiTaskModel`, before the step.
        inputs: Two boolean scalars: whether the inputs have NaN, and
            infinities, which they should not.
    """

    def __init__(self, model: MultiTaskModel, inputs: tuple[Tensor, Tensor]) -> None:
        self.model = model
        self.compiled = model.compiled_tasks
        self._inputs = inputs
        self._scaled = loss_is_scaled(model)
        self._raises = self.compiled.on_nonfinite == "raise"
        self._all_or_nothing = is_all_or_nothing(model)
        self._moves = optimizer_moves(model.optimizer)
        self._state = self._statistics = ()
        if self._all_or_nothing or self._scaled or self._moves is not True:
            self._state = _with_values(self.compiled.weighting.non_trainable_variables)
        if self._all_or_nothing:
            self._statistics = _with_values(_statistics(model))

    def let_through(
        self, pairs: Sequence[tuple[Tensor, keras.Variable]], finite: Tensor, present: Tensor
    ) -> tuple[Any, ...]:
        """Looks at a step's numbers before the optimizer takes it.

        Args:
            pairs: List of pairs of gradient and variable.
            finite: Boolean tensor of shape `(K,)`. Whether a task's numbers
                were finite.
            present: Float tensor of shape `(K,)`. 1 for the tasks in the step.

        Returns:
            Tuple of a boolean scalar, or `None` where the step is taken in any
            case, and the pairs as the optimizer should have them.
        """
        self._finite = ops.logical_and(finite, ops.logical_not(ops.logical_or(*self._inputs)))
        gradients_finite = True
        if self._all_or_nothing or self._scaled:
            gradients_finite = _all_finite([gradient for gradient, _ in pairs], exactly=self._scaled)
        usable = ops.all(self._finite)
        if self.compiled.on_nonfinite == "skip_task":
            usable = ops.logical_or(usable, ops.any(present > 0))
        self._overflow = ops.logical_not(gradients_finite) if self._scaled else False
        usable = ops.logical_and(usable, ops.logical_or(gradients_finite, self._overflow))
        if self._scaled and core.replicas() > 1:
            # The optimizer looks at the first replica's gradients alone, before they are added up.
            pairs = [(core.choose(gradients_finite, gradient, float("nan")), variable) for gradient, variable in pairs]
        self._usable, self._waiting = usable, False
        if self._raises:  # later steps are left out too, until the host comes to raise
            self._waiting = self.compiled.faults.any()
        self._taken = ops.logical_and(usable, ops.logical_not(self._waiting))
        return self._taken if self._all_or_nothing else None, pairs

    def if_optimizer_steps(self, follow: Callable[..., Any]) -> None:
        """Calls a function unless the optimizer has only accumulated gradients.

        Args:
            follow: Function without arguments, which changes state.
        """
        if self._moves is True or core.replicas() > 1:  # replicas cannot meet inside a branch: `close` sets back
            follow()
            return
        core.cond(self._moves, lambda: (follow(), ops.ones(()))[1], lambda: ops.zeros(()))

    def close(self) -> None:
        """Sets back what a step that was not taken has changed, and tells the tracker, once all state has moved."""
        stepped = ops.logical_and(self._taken, ops.logical_not(self._overflow))
        state_finite = True
        if floats := [variable.value for variable, _ in self._state if is_float(variable)]:
            state_finite = _all_finite(floats)
        usable = ops.logical_and(self._usable, ops.logical_or(state_finite, self._overflow))
        self.compiled.faults.update_state(
            ops.logical_not(ops.logical_or(self._finite, self._waiting)),
            ops.logical_not(ops.logical_or(usable, self._waiting)),
            self._inputs,
            core.replicas(),
        )
        of_steps = set() if self._moves is True else _state_of_steps(self.model)
        # State that is not finite is not kept, whatever the step has been.
        for kept, before in ((ops.logical_and(stepped, state_finite), self._state), (self._taken, self._statistics)):
            for variable, old in before:
                moved = ops.logical_and(kept, self._moves) if id(variable) in of_steps else kept
                variable.assign(ops.where(moved, variable.value, old))


def optimizer_moves(optimizer: keras.optimizers.Optimizer) -> Tensor | bool:
    """Whether the optimizer's next step changes variables, and does not only accumulate gradients.

    Args:
        optimizer: Keras optimizer.

    Returns:
        `True` where it does not accumulate at all, else a boolean tensor.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    several = getattr(optimizer, "optimizers", [optimizer])
    if not all(one.gradient_accumulation_steps for one in several):
        return True
    moves = [ops.equal((micro_steps_of(one).value + 1) % one.gradient_accumulation_steps, 0) for one in several]
    return ops.any(ops.stack(moves))


def _state_of_steps(model: MultiTaskModel) -> set[int]:
    """Ids of the variables that count or follow the optimizer's steps."""
    layers = [model.compiled_tasks.weighting, *layers_within(model)]
    return {id(v) for layer in layers for v in getattr(layer, "state_of_steps", list)()}


def is_float(variable: keras.Variable) -> bool:
    """Whether a variable can be NaN or infinite."""
    return "float" in variable.dtype


def _all_finite(gradients: Sequence[Tensor], exactly: bool = False) -> Tensor:
    """Whether all entries of some gradients are finite, on all replicas."""
    if exactly:  # as the optimizer sees it: scaled gradients are finite where their sum is not
        gradients = [ops.logical_not(ops.isfinite(core.entries(gradient))) for gradient in gradients]
        (count,) = core.all_reduce([sum_of([ops.cast(ops.any(wrong), "float32") for wrong in gradients])])
        return ops.equal(count, 0.0)
    (total,) = core.all_reduce([sum_of(gradients)])
    return ops.isfinite(total)


def _with_values(variables: Sequence[keras.Variable]) -> list[tuple[keras.Variable, Tensor]]:
    return [(variable, ops.copy(variable.value)) for variable in variables]


def _statistics(model: MultiTaskModel) -> list[keras.Variable]:
    """Variables that a forward pass may change, such as moving averages.

    Variables of frozen layers do not change, and may be large.
    """
    left_out = {id(variable) for variable in model.compiled_tasks.weighting.non_trainable_variables}
    for layer in layers_of(model):
        if not layer.trainable:
            left_out.update(id(variable) for variable in layer.variables)
    variables = [variable for variable in model.non_trainable_weights if id(variable) not in left_out]
    return [variable for variable in variables if is_float(variable) or variable.dtype in ("int32", "int64")]
