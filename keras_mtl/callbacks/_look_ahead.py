"""Look ahead: the effect of a step for one task on the losses of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Structure, Tensor
from keras_mtl.training.backends import core

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class Glance(NamedTuple):
    """One look ahead, on one batch.

    Attributes:
        before: Array of shape `(K,)`. The tasks' losses.
        after: Array of shape `(K, K)`. Row i holds the losses after a step of
            the shared variables for task i alone.
        present: Array of shape `(K,)`. 1 for tasks with labels in the batch.
        gramian: Array of shape `(K, K)`. Inner products of the task gradients.
    """

    before: np.ndarray
    after: np.ndarray
    present: np.ndarray
    gramian: np.ndarray


class LookAhead:
    """Takes a step for each task by itself, and takes it back.

    The steps are functional: no variable of the model changes, and neither do
    the heads' values in the look ahead. The model runs in inference mode.

    Args:
        model: A compiled `MultiTaskModel`.
        with_momentum: Boolean. Whether the step is that of the model's SGD with its
            momentum, not one of plain gradient descent. Defaults to `False`.
    """

    def __init__(self, model: MultiTaskModel, with_momentum: bool = False) -> None:
        self.tasks = model.compiled_tasks.tasks
        self._model = model
        self._sgd = getattr(model.optimizer, "inner_optimizer", model.optimizer) if with_momentum else None
        if with_momentum and not (isinstance(self._sgd, keras.optimizers.SGD) and self._sgd.momentum > 0):
            raise ValueError(
                "`with_momentum=True` needs a model whose optimizer is SGD with momentum. "
                f"Received: {type(self._sgd).__name__}"
            )
        shared = model.sharing.shared_variables(self.tasks)
        if not shared:
            raise ValueError(f"Model '{model.name}' should have trainable layers that two tasks share. Received: none")
        places = {id(variable): place for place, variable in enumerate(model.trainable_variables)}
        self._places = [places[id(variable)] for variable in shared]
        self._run = core.traced(self._look, model)

    def __call__(
        self,
        x: Structure,
        y: Mapping[str, Tensor],
        sample_weight: Tensor | None = None,
        learning_rate: float | None = None,
    ) -> Glance:
        """Looks ahead on one batch.

        Args:
            x: Inputs, as the model takes them.
            y: Dict from task to labels.
            sample_weight: As in `fit`.
            learning_rate: Float. Size of the gradient steps. Defaults to the
                optimizer's rate at present.

        Returns:
            A `Glance`.
        """
        core.synchronize(self._model)
        learning_rate = self._model.optimizer.learning_rate if learning_rate is None else learning_rate
        return Glance(*self._run(x, y, sample_weight, ops.cast(learning_rate, "float32")))

    def _look(
        self, x: Structure, y: Mapping[str, Tensor], sample_weight: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, ...]:
        trainable = [ops.convert_to_tensor(v.value) for v in self._model.trainable_variables]
        scale = self._model.optimizer.scale_loss(1.0)

        def scaled(*shared: Any) -> tuple[list[Tensor], tuple[list[Tensor], Tensor]]:
            losses, counts = self._losses(self._placed(trainable, shared), x, y, sample_weight)
            static = ops.unstack(self._model.compiled_tasks.static_weights.value)
            return [loss * weight * scale for loss, weight in zip(losses, static, strict=True)], (losses, counts)

        shared = [trainable[place] for place in self._places]
        pullback = core.Pullback(scaled, [], shared)
        losses, counts = pullback.aux
        rows = [pullback.of(k)[1] for k in range(len(losses))]
        gradients = [
            ops.stack([ops.zeros_like(value) if row[i] is None else core.dense(row[i]) for row in rows]) / scale
            for i, value in enumerate(shared)
        ]
        flat = [ops.reshape(g, (len(rows), -1)) for g in gradients]
        gramian = ops.sum(ops.stack([ops.matmul(g, ops.transpose(g)) for g in flat]), axis=0)

        def after(task: str) -> Tensor:
            stepped = self._stepped(trainable, shared, [ops.take(g, task, axis=0) for g in gradients], learning_rate)
            return ops.stack(self._losses(stepped, x, y, sample_weight)[0])

        # A loop in the graph: as large for many tasks as for two.
        ahead = ops.map(after, ops.arange(len(rows)))
        return ops.stack(losses), ahead, ops.cast(counts > 0, "float32"), gramian

    def _placed(self, trainable: Sequence[Tensor], shared: Sequence[Tensor]) -> list[Tensor]:
        """Values of all trainable variables, with those of the shared ones in their places."""
        placed = list(trainable)
        for place, value in zip(self._places, shared, strict=True):
            placed[place] = value
        return placed

    def _losses(
        self, trainable: Sequence[Tensor], x: Structure, y: Mapping[str, Tensor], sample_weight: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        fixed = [v.value for v in self._model.non_trainable_variables]
        y_pred, _ = self._model.stateless_call(trainable, fixed, x, training=False)
        batch = self._model.compiled_tasks.task_losses(y, y_pred, sample_weight)
        return [ops.divide_no_nan(s, batch.divisors[k]) for k, s in enumerate(batch.sums)], batch.counts

    def _stepped(
        self, trainable: Sequence[Tensor], shared: Sequence[Tensor], gradients: Sequence[Tensor], learning_rate: Tensor
    ) -> list[Tensor]:
        stepped = []
        for place, variable, gradient in zip(self._places, shared, gradients, strict=True):
            move = -ops.cast(learning_rate, variable.dtype) * gradient
            if self._sgd is not None:
                velocity = self._sgd.momentum * self._sgd.momentums[place].value + move
                move = self._sgd.momentum * velocity + move if self._sgd.nesterov else velocity
            stepped.append(variable + move)  # the others, heads first of all, stay what they were
        return self._placed(trainable, stepped)
