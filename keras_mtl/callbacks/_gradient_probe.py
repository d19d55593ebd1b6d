"""Task gradients of each shared layer on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy.typing as npt
from keras import ops

from keras_mtl._float64 import float64
from keras_mtl._types import Structure, Tensor
from keras_mtl.training.backends import core
from keras_mtl.training.task_gradients import TaskGradients

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class GradientProbe:
    """Gramians of the task gradients, one for each shared layer.

    The model runs in inference mode and nothing in it changes.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        tasks = model.compiled_tasks.tasks
        self._model = model
        self._layers = [
            layer
            for layer in model.sharing.layers
            if layer.trainable_variables and len(set(tasks) & set(model.sharing.tasks_of(layer))) > 1
        ]
        if not self._layers:
            raise ValueError(f"Model '{model.name}' should have trainable layers that two tasks share. Received: none")
        self.layers = [layer.name for layer in self._layers]
        self._run = core.traced(self._gramians, model)

    def __call__(
        self, x: Structure, y: Mapping[str, npt.ArrayLike], sample_weight: Structure | None = None
    ) -> Structure:
        """Gramians on one batch.

        Args:
            x: Inputs, as the model takes them.
            y: Dict from task to labels.
            sample_weight: As in `fit`.

        Returns:
            Array of shape `(number of shared layers, K, K)`.
        """
        core.synchronize(self._model)
        return self._run(x, y, sample_weight)

    def _gramians(self, x: Structure, y: Mapping[str, Tensor], sample_weight: Structure | None) -> Tensor:
        variables = [layer.trainable_variables for layer in self._layers]
        flat = [variable for of_layer in variables for variable in of_layer]

        def losses() -> tuple[list[Tensor], None]:
            batch = self._model.compiled_tasks.task_losses(y, self._model(x, training=False), sample_weight)
            return [ops.divide_no_nan(s, batch.divisors[k]) for k, s in enumerate(batch.sums)], None

        pullback = core.Pullback(losses, flat)
        rows = [pullback.of(k)[0] for k in range(len(pullback.outputs))]
        gramians, start = [], 0
        for of_layer in variables:
            end = start + len(of_layer)
            gramians.append(TaskGradients([row[start:end] for row in rows], of_layer).gramian())
            start = end
        with float64():
            return ops.stack(gramians)
