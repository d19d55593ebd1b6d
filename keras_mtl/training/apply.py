"""The fourth stage of a training step: applying gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_mtl._keras_private import accumulated_gradients
from keras_mtl._types import Tensor
from keras_mtl.training.backends import core
from keras_mtl.training.forward import key

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.forward import Forward
    from keras_mtl.training.nonfinite import StepGuard


def apply_gradients(
    model: MultiTaskModel, guard: StepGuard, gradients: Mapping[int, Tensor | None], step: Forward
) -> None:
    """Lets the optimizer take the step, if the guard lets it through.

    Args:
        model: A compiled `MultiTaskModel`.
        guard: `StepGuard` from before the step.
        gradients: Dict of gradients by variable.
        step: `Forward`. What is known of it.

    Raises:
        ValueError: If a variable that serves a task of the batch has no
            gradient.
    """
    variables = model.trainable_variables
    trained = [task for task in step.batch.labels if task in model.compiled_tasks.tasks]
    unreached = [v.path for v in variables if gradients.get(key(v)) is None and model.sharing.serves(v, trained)]
    if unreached:
        raise ValueError(
            "Every trainable variable should get a gradient from its tasks' losses. Received: no gradient for "
            f"{unreached}. Is there an operation without gradient behind them?"
        )
    if not model.optimizer.built:  # a step outside `fit`: the batch may lack a task, the optimizer may not
        core.build_optimizer(model)
    frozen, resting = [], []
    if (accumulated := _accumulated(model.optimizer)) and any(gradients.get(key(v)) is not None for v in variables):
        # What a micro-batch has brought is applied with the last one of its step, though that may lack the task.
        for variable in [v for v in variables if gradients.get(key(v)) is None and key(v) in accumulated]:
            nothing = ops.all(ops.equal(accumulated[key(variable)], 0))
            resting.append((variable, ops.copy(variable.value), nothing))
            gradients = {**gradients, key(variable): ops.zeros_like(variable.value)}
    if hasattr(model.optimizer, "optimizers"):
        # A `MultiOptimizer` wants a gradient for each variable that it was built for: those of absent tasks get zeros,
        # and so do frozen ones, which stay what they are whatever momentum or weight decay make of that.
        trained = set(map(key, variables))
        variables = model.compiled_tasks.optimized or variables
        frozen = [(v, ops.copy(v.value)) for v in variables if key(v) not in trained]
        gradients = {key(v): ops.zeros_like(v.value) if (g := gradients.get(key(v))) is None else g for v in variables}
    pairs = [(gradients[key(v)], v) for v in variables if gradients.get(key(v)) is not None]
    condition, pairs = guard.let_through(pairs, step.finite, step.present)
    if pairs:  # else a batch without labels, under weightings that take task gradients
        core.apply_if(condition, model.optimizer, pairs)
    for variable, value in frozen:
        variable.assign(value)
    for variable, value, nothing in resting:  # of tasks that no micro-batch of the step had: no momentum, no decay
        variable.assign(ops.where(nothing, value, variable.value))


def _accumulated(optimizer: keras.optimizers.Optimizer) -> dict[int, Tensor]:
    """Dict of the gradients that an optimizer has accumulated, by variable; empty where it does not."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return {key(variable): gradient.value for variable, gradient in accumulated_gradients(optimizer)}
