"""One training step, and what a batch of evaluation is: five stages on one page."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Data, Structure, Tensor
from keras_mtl.losses.arrays import by_task
from keras_mtl.training import places
from keras_mtl.training.apply import apply_gradients
from keras_mtl.training.backends import core
from keras_mtl.training.forward import SecondPasses, added_losses, mean_losses, overridden_loss, total_of
from keras_mtl.training.nonfinite import StepGuard

if TYPE_CHECKING:
    from keras_mtl.losses.task_losses import TaskBatch
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.penalties._of_model import PenaltyBatch
    from keras_mtl.training.compiled import Compiled
    from keras_mtl.training.forward import Forward


def train_step(model: MultiTaskModel, data: Data) -> dict[str, Tensor]:
    """Runs one optimizer step; what `MultiTaskModel.train_step` does.

    Args:
        model: A compiled `MultiTaskModel`.
        data: What the data set yields: `x, y` or `x, y, sample_weight`.

    Returns:
        Dict of logs.
    """
    data, compiled = _unpacked(model, data), model.compiled_tasks
    guard = StepGuard(model, _faults_of(compiled, data[0]))
    place = compiled.weighting.place(places, model)
    # 1. Forward: the tasks' losses.
    step = place.forward(data)
    # 2. Task gradients, where the weighting wants them.
    step = place.collect(step)
    # 3. Update rule: from task gradients to one gradient.
    update = compiled.weighting.rule(place, step)
    gradients = dict(update.gradients)
    for name, gradient in place.further().items():
        gradients[name] = core.add(gradients.get(name), gradient)
    # 4. Apply: the optimizer's step, then the state that follows it.
    apply_gradients(model, guard, gradients, step)
    losses_again = functools.partial(_losses_again, model, data, step)
    compiled.weighting.follow(step, update, guard.if_optimizer_steps, losses_again)
    penalties = None if step.penalties is None else _of_replicas(step.penalties)
    if penalties:
        compiled.penalties.update(*penalties)
    guard.close()
    # 5. Track: losses, metrics, weights, gradients.
    _track_losses(model, data[0], step.batch, step.added, penalties, step.finite)
    compiled.track_weights(update.weights, step.present)
    if update.gramian is not None:
        compiled.track_gramian(update.gramian, step.present if update.solved is None else step.present * update.solved)
    return _logs(model, step.y_pred, *data)


def test_step(model: MultiTaskModel, data: Data) -> dict[str, Tensor]:
    """Evaluates one batch; what `MultiTaskModel.test_step` does."""
    x, y, sample_weight = _unpacked(model, data)
    if model.compiled_tasks.check_inputs:
        model.compiled_tasks.faults.see_inputs(_faults_of(model.compiled_tasks, x))
    y_pred = model(x, training=False)
    track(model, x, y, y_pred, sample_weight, training=False)
    return _logs(model, y_pred, x, y, sample_weight)


def track(
    model: MultiTaskModel,
    x: Structure,
    y: Mapping[str, Tensor],
    y_pred: Mapping[str, Tensor],
    sample_weight: Tensor,
    training: bool,
) -> None:
    """Updates the tasks' losses and metrics with a batch that no training step of ours has seen.

    Args:
        model: A compiled `MultiTaskModel`.
        x: Inputs.
        y: Dict from task to labels.
        y_pred: Dict from task to predictions.
        sample_weight: As in `fit`.
        training: Boolean. Whether class weights hold.
    """
    compiled = model.compiled_tasks
    added = added_losses(model)
    batch = compiled.task_losses(y, y_pred, sample_weight, training)
    terms = overridden_loss(model, x, y, y_pred, sample_weight, training)
    penalties = _of_replicas(compiled.penalties(batch, training)) if compiled.penalties else None
    _track_losses(model, x, batch, total_of(added, terms), penalties)


def _track_losses(
    model: MultiTaskModel,
    x: Structure,
    batch: TaskBatch,
    added: Tensor,
    penalties: tuple[Tensor, Tensor] | None,
    finite: Tensor | None = None,
) -> None:
    compiled, size = model.compiled_tasks, ops.cast(core.number_of_rows(x), "float32")
    compiled.track_losses(batch, added, size, finite)
    if penalties:
        compiled.penalties.track(*penalties, size)


def _of_replicas(penalties: PenaltyBatch) -> tuple[Tensor, Tensor]:
    """Values of the penalties and which are known, over all replicas."""
    values, known = core.all_reduce([penalties.values * penalties.known, penalties.known])
    return ops.divide_no_nan(values, known), ops.cast(known > 0, "float32")


def _losses_again(
    model: MultiTaskModel, data: tuple[Tensor | np.ndarray, Mapping[str, Tensor | np.ndarray], None], step: Forward
) -> Tensor:
    """The losses of the same batch after the step. One that is finite no more counts as one that has not changed."""
    x, y, sample_weight = data
    with SecondPasses(model).one():
        batch = model.compiled_tasks.task_losses(y, model(x, training=True), sample_weight, training=True)
    again = ops.stack(mean_losses(model.compiled_tasks, batch)[0])
    return ops.where(ops.isfinite(again), again, step.losses)


def _unpacked(model: MultiTaskModel, data: Data) -> tuple[Any, Any, Any]:
    """What a data set yields, with labels that are a tuple as a dict keyed by task."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is None:
        raise ValueError(
            f"`y` should be given, as a dict keyed by task: {list(model.tasks)}. Received: no labels beside `x`"
        )
    compiled = model.compiled_tasks
    return x, by_task(y, "y", compiled), by_task(sample_weight, "sample_weight", compiled)


def _faults_of(compiled: Compiled, x: Structure) -> tuple[Tensor, Tensor]:
    """Whether the inputs of a batch, of all replicas, have NaN and infinities; no where they are not looked at."""
    if not compiled.check_inputs:
        return False, False
    # NaN where an entry is, else infinite where an entry is: so much smaller, sums of what is finite do not overflow.
    sums = [ops.sum(ops.abs(ops.cast(part, "float32")) * 2.0**-60) for part in core.floats_in(x)]
    if not sums:
        return False, False
    (total,) = core.all_reduce([sums[0] if len(sums) == 1 else ops.sum(ops.stack(sums))])
    return ops.isnan(total), ops.isinf(total)


def _logs(
    model: MultiTaskModel,
    y_pred: Tensor,
    x: Structure,
    y: Mapping[str, Tensor | np.ndarray],
    sample_weight: Tensor | None,
) -> dict[str, Tensor]:
    model.compiled_tasks.in_step = True
    try:
        return core.as_logs(model, model.compute_metrics(x, y, y_pred, sample_weight))
    finally:
        model.compiled_tasks.in_step = False
