"""The first stage of a training step: the tasks' losses on one batch."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Structure, Tensor
from keras_mtl.losses.task_losses import TaskBatch
from keras_mtl.penalties._of_model import PenaltyBatch
from keras_mtl.training.backends import core

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.training.compiled import Compiled


def key(variable: keras.Variable) -> int:
    """What a variable is known by in dicts of gradients."""
    return id(variable)


class Forward(NamedTuple):
    """What is known of a step once its losses are there.

    Attributes:
        batch: `TaskBatch`.
        losses: Float tensor of shape `(K,)`: mean losses of the whole batch,
            of all replicas, times their static weights. Without gradients.
        present: Float tensor of shape `(K,)`. 1 for tasks with labels.
        finite: Boolean tensor of shape `(K,)`. Whether a task's numbers are.
        added: Scalar or `None`. What layers, and `compute_loss` of a subclass,
            add.
        penalties: `PenaltyBatch` or `None`.
        scale: Scalar. What the optimizer wants the loss multiplied by.
        y_pred: Dict from task to predictions.
    """

    batch: TaskBatch
    losses: Tensor
    present: Tensor
    finite: Tensor
    added: Tensor | None
    penalties: PenaltyBatch | None
    scale: Tensor
    y_pred: Mapping[str, Tensor]

    @staticmethod
    def cond(condition: Tensor, true: Callable[[], Any], false: Callable[[], Any]) -> Structure:
        """Calls one of two functions, which may assign variables. Returns what it gives."""
        return core.cond(condition, true, false)

    def differentiate(
        self,
        objective: Callable[..., tuple[Any, ...]],
        variables: Sequence[keras.Variable],
        losses: Tensor | None = None,
        in_parts: bool = False,
    ) -> tuple[Any, dict[int, Tensor], Any]:
        """Takes the derivatives of what a weighting minimizes.

        Args:
            objective: Function that gives a scalar and whatever else is known;
                of the losses, where these are given.
            variables: List of the variables that it reads.
            losses: Tensor of shape `(K,)` or `None`.
            in_parts: Boolean. Whether each replica has its part of the scalar,
                not the whole. Defaults to `False`.

        Returns:
            Tuple of the slopes by the losses, of shape `(K,)`; a dict of the
            gradients by variable, as the optimizer wants them; and what is
            known besides.
        """

        def function(*losses: Any) -> tuple[list[Tensor], tuple[Tensor, Tensor] | Tensor]:
            value, known = objective(*losses)
            return [value], known

        pullback = core.Pullback(function, variables, [] if losses is None else [losses])
        found, slopes = pullback.of(0) if variables or losses is not None else ([], [])
        # The optimizer sums the gradients of the replicas.
        scale = self.scale if in_parts else self.scale / core.replicas()
        found = [g if g is None else core.scale(g, scale) for g in found]
        return (*slopes, None)[0], dict(zip(map(key, variables), found, strict=True)), pullback.aux


def scaled_losses(
    model: MultiTaskModel,
    data: Structure,
    y_pred: Mapping[str, Tensor],
    tasks_alone: bool = False,
    added_before: Tensor | None = None,
) -> tuple[list[Tensor], Forward]:
    """The losses that a step differentiates.

    Args:
        model: A compiled `MultiTaskModel`.
        data: Tuple `(x, y, sample_weight)`.
        y_pred: Dict from task to predictions.
        tasks_alone: Boolean. Whether what layers, regularizers and penalties
            add is left out. Defaults to `False`.
        added_before: Scalar or `None`. What layers have added in passes that
            are over, where the model does not keep it.

    Returns:
        Tuple of a list, of the K losses times the optimizer's scale and, where
        there is any, of what is added to their sum; and `Forward`. The value of
        each loss is that of the whole batch, its gradient this replica's part.
    """
    compiled, (x, y, sample_weight) = model.compiled_tasks, data
    # Before replicas meet: they keep what layers add in one list.
    added = None if tasks_alone else total_of(added_losses(model), added_before)
    batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
    penalties = terms = None
    if not tasks_alone:
        penalties = compiled.penalties(batch, training=True) if compiled.penalties else None
        terms = overridden_loss(model, x, y, y_pred, sample_weight)
    added = total_of(added, terms)
    scale = model.optimizer.scale_loss(1.0)
    each, present = mean_losses(compiled, batch)
    outputs = [loss * scale for loss in each]
    more = total_of(added, penalties and penalties.total)
    if more is not None:
        outputs.append(more * scale / core.replicas())
    losses = ops.stop_gradient(ops.stack(each))
    return outputs, Forward(batch, losses, present, ops.isfinite(losses), added, penalties, scale, y_pred)


def mean_losses(compiled: Compiled, batch: TaskBatch) -> tuple[list[Tensor], Tensor]:
    """The tasks' mean losses over all replicas times their static weights, and which tasks have labels.

    Returns:
        Tuple of a list of K scalars and a float tensor of shape `(K,)`.
    """
    divisors, counts = batch.divisors, batch.counts
    if core.replicas() > 1:
        sums, divisors, counts = core.all_reduce([ops.stop_gradient(ops.stack(batch.sums)), divisors, counts])
        divisors = ops.where(compiled.task_losses.summed, 1.0, divisors)
    means = [ops.divide_no_nan(s, n) for s, n in zip(batch.sums, ops.unstack(divisors), strict=True)]
    if core.replicas() > 1:
        whole = ops.divide_no_nan(sums, divisors)
        means = [part + ops.stop_gradient(whole[k] - part) for k, part in enumerate(means)]
    static = compiled.static_weights.value
    each = [mean * weight for mean, weight in zip(means, ops.unstack(static), strict=True)]
    return each, ops.cast(ops.logical_and(counts > 0, static > 0), "float32")


def added_losses(model: MultiTaskModel) -> Tensor | None:
    """Sum of what layers and regularizers add to the loss; `None` where they add nothing."""
    losses = [ops.cast(loss, "float32") for loss in model.losses]
    return ops.sum(ops.stack(losses)) if losses else None


def losses_of_calls(model: keras.Model) -> Tensor | None:
    """Sum of what layers have added to the loss when called, without regularizers of variables; `None` for nothing."""
    of_variables = sum(variable.regularizer is not None for variable in model.trainable_weights)
    losses = [ops.cast(loss, "float32") for loss in model.losses]
    losses = losses[: len(losses) - of_variables]  # Keras has those of variables last
    return ops.sum(ops.stack(losses)) if losses else None


def total_of(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Sum of two scalars of which any may be `None`."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def overridden_loss(
    model: MultiTaskModel,
    x: Structure,
    y: Mapping[str, Tensor | np.ndarray],
    y_pred: Tensor,
    sample_weight: Tensor | None,
    training: bool | None = True,
) -> Tensor | None:
    """What a subclass's `compute_loss` has beyond the total of the tasks; `None` where no subclass has its own."""
    if not model.overrides("compute_loss"):
        return None
    compiled = model.compiled_tasks
    compiled.tasks_total = None
    mode = {"training": training} if "training" in inspect.signature(model.compute_loss).parameters else {}
    loss = ops.cast(model.compute_loss(x, y, y_pred, sample_weight, **mode), "float32")
    total, compiled.tasks_total = compiled.tasks_total, None  # no tensor outlives its graph
    if total is None:
        if training and (compiled.weighting.weighs or compiled.on_nonfinite == "skip_task"):
            raise ValueError(
                f"`compute_loss` of {type(model).__name__} should add to what `super().compute_loss(...)` returns, "
                f"since {compiled.weighting!r} with `on_nonfinite='{compiled.on_nonfinite}'` needs the tasks' losses "
                "apart. Received: a loss that is not made of it, on which only weighting='equal' trains"
            )
        total = model.total_of_tasks(y, y_pred, sample_weight, training)
    return loss - total


class SecondPasses:
    """Further forward passes of one training step, of which nothing remains.

    Moving averages, counters and what else layers keep stay as the step's own
    pass has left them. Draws go on from pass to pass, so that what is drawn is
    independent, and after the last one from where the step's own pass ended.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        weights = {id(variable) for variable in model.non_trainable_weights}
        self._seeds = [v for v in model.non_trainable_variables if id(v) not in weights]
        self._drawn = []

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Within it, variables keep what a pass assigns to them to itself."""
        with core.scope(self._drawn) as scope:
            yield
        drawn = [(seed, scope.get_current_value(seed)) for seed in self._seeds]
        self._drawn = [(seed, value) for seed, value in drawn if value is not None]
