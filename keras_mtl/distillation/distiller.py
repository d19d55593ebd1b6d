"""The model in which a student is trained on labels and teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl._types import Inputs, LossLike, Structure, Tensor
from keras_mtl.distillation._distillation_losses import DistillationLosses, column_of
from keras_mtl.models.multi_task_model import MultiTaskModel

if TYPE_CHECKING:
    from keras_mtl.distillation._teachers import Teachers
    from keras_mtl.losses.task_losses import TaskLosses
    from keras_mtl.training.fit_callback import FitCallback


class Distiller(MultiTaskModel):
    """A student's layers with its teachers' targets. `distill` makes it.

    It shares the student's layers and weights: training it trains the student. It is compiled and
    fitted like any `MultiTaskModel`; in evaluation the labels count alone. What is saved and served
    is the student.

    Args:
        inputs: As `MultiTaskModel`.
        outputs: As `MultiTaskModel`, with an output for each hint.
        name: String. Name of the model.
        teachers: `Teachers`.
        temperature: Dict from task to float.
        annealing: `"linear"`, a float, or a function.
        steps: Integer or `None`.
        hints: Dict from a hint's task to a pair of a teacher and a model of its
            features.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: Mapping[str, keras.KerasTensor],
        name: str | None = None,
        *,
        teachers: Teachers,
        temperature: Mapping[str, float],
        annealing: str | float | Callable[[Tensor], Tensor] = "linear",
        steps: int | None = None,
        hints: Mapping[str, Callable[..., Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(inputs, outputs, name=name, **kwargs)
        self._teachers = teachers
        self._temperature = temperature
        self._annealing = annealing
        # Behind a function: the teachers are no part of this model.
        self._hints = lambda: hints or {}
        self._steps_given = steps is not None
        self.steps_done = _counter("steps_done")
        self.steps_planned = _counter("steps_planned", steps or 0)

    @property
    def progress(self) -> Tensor:
        """The part of the planned steps that is done, from 0 to 1."""
        return ops.minimum(ops.divide_no_nan(self.steps_done.value, self.steps_planned.value), 1.0)

    def gold(self) -> Tensor:
        """The weight of labels against teachers at this step, from 0 to 1."""
        if self._annealing == "linear":
            return self.progress
        if callable(self._annealing):
            return ops.cast(self._annealing(self.progress), "float32")
        return ops.convert_to_tensor(float(self._annealing), "float32")

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: LossLike | Mapping[str, LossLike] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        hints = self._hints()
        if hints:
            if not isinstance(loss, dict):
                loss = {task: loss for task in self.tasks if task not in hints}
            loss = {**dict.fromkeys(hints, "mse"), **loss}
        super().compile(optimizer, loss, *args, **kwargs)

    def make_task_losses(
        self, losses: Mapping[str, keras.losses.Loss], outputs: Mapping[str, keras.KerasTensor], **options: Any
    ) -> TaskLosses:
        return DistillationLosses(
            losses, outputs, teachers=self._teachers, temperature=self._temperature, gold=self.gold, **options
        )

    def further_targets(self, x: Structure, training: bool | None) -> dict[str, Any]:
        """The features of teachers as labels of the hints and, in training, what teachers say as columns."""
        targets = {task: ops.stop_gradient(features(x)) for task, features in self._hints().items()}
        if training:
            said = self._teachers(x)
            targets.update({column_of(task): said[task] for task in self.compiled_tasks.task_losses.kinds})  # type: ignore[attr-defined]
        return targets

    def after_train_step(self) -> None:
        self.steps_done.assign_add(1.0)

    def own_callbacks(self) -> list[PlanOfSteps | FitCallback]:
        return [PlanOfSteps(), *super().own_callbacks()]

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError(
            "What should be saved or cloned is the student, whose layers these are; a `Distiller` holds its teachers. "
            "Its weights can be saved by `save_weights`."
        )


class PlanOfSteps(keras.callbacks.Callback):
    """Tells a `Distiller` how many steps there will be, where the caller did not."""

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        model = self.model
        if model._steps_given or not (model._annealing == "linear" or callable(model._annealing)):
            return
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if not steps:
            raise ValueError(
                "`steps`, the total number of training steps, should be given to `distill`, since the size of the data "
                "set is unknown and labels take over from the teachers as training goes on. Received: steps=None"
            )
        model.steps_planned.assign(float(steps * epochs))


def _counter(name: str, start: int = 0) -> keras.Variable:
    return keras.Variable(float(start), trainable=False, dtype="float32", name=name)
