"""The teachers of a student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
from keras import ops

from keras_mtl._checks import as_list, check_boolean
from keras_mtl._keras_private import maker_of
from keras_mtl._types import Shape, Structure, Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class Teachers:
    """Frozen models, each of which teaches a task or several.

    A plain object, so that the student's training neither tracks nor trains them.

    Args:
        given: Dict from task to a Keras model or a list of them; or one model
            whose outputs are a dict keyed by task.
        shapes: Dict from the student's tasks to the shapes of their outputs.
        from_logits: `None`, a boolean, or a dict from task to one. Whether the
            teachers' outputs are logits. `None`: as their last activation
            says.
    """

    def __init__(
        self, given: Structure, shapes: Mapping[str, Shape], from_logits: bool | Mapping[str, bool] | None = None
    ) -> None:
        if isinstance(given, keras.Model):
            given = _tasks_of_model(given, shapes)
        if not isinstance(given, dict) or not given:
            raise ValueError(
                "`teachers` should be a dict from task to a Keras model or a list of them, or a model whose outputs "
                f"are a dict keyed by task. Received: teachers={given!r}"
            )
        unknown = [task for task in given if task not in shapes]
        if unknown:
            raise ValueError(
                f"The keys of `teachers` should be tasks of the student: {list(shapes)}. Received: {unknown}"
            )
        self.by_task = {}
        for task, models in given.items():
            models = as_list(models)
            if not models:
                raise ValueError(f"`teachers` of task '{task}' should be one model or more. Received: none")
            self.by_task[task] = [_checked(model, task, shapes[task]) for model in models]
        self._from_logits = from_logits if isinstance(from_logits, dict) else dict.fromkeys(given, from_logits)
        for one in self._from_logits.values():
            check_boolean(one, "from_logits", or_none=True)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tuple of the tasks that are taught."""
        return tuple(self.by_task)

    def logits_of(self, task: str, default: bool) -> list[bool]:
        """Whether each teacher of a task says logits.

        Args:
            task: String.
            default: Boolean. What to take where neither the caller nor the
                teacher's last activation says it.

        Returns:
            List of booleans.
        """
        given = self._from_logits.get(task)
        if given is not None:
            return [bool(given)] * len(self.by_task[task])
        found = [_says_logits(model, task) for model in self.by_task[task]]
        return [default if one is None else one for one in found]

    def __call__(self, x: Structure) -> dict[str, list[Tensor]]:
        """What the teachers say on a batch.

        Args:
            x: Inputs, as the student takes them.

        Returns:
            Dict from task to a list of outputs, without gradient.
        """
        said = {}  # a model that teaches several tasks runs once
        outputs = {}
        for task, models in self.by_task.items():
            outputs[task] = []
            for model in models:
                if id(model) not in said:
                    said[id(model)] = model(inputs_for(model, x), training=False)
                output = said[id(model)]
                outputs[task].append(ops.stop_gradient(output[task] if isinstance(output, dict) else output))
        return outputs


def inputs_for(model: MultiTaskModel, x: Structure) -> Structure:
    """The part of a dict of inputs that a model takes."""
    if isinstance(x, dict) and isinstance(getattr(model, "input", None), dict):
        return {name: x[name] for name in model.input}
    return x


def _tasks_of_model(model: MultiTaskModel, shapes: Mapping[str, Shape]) -> dict[str, keras.Model]:
    outputs = _output_of(model, "teachers")
    tasks = [task for task in outputs if task in shapes] if isinstance(outputs, dict) else []
    if not tasks:
        raise ValueError(
            f"`teachers` should be a dict keyed by task, or a model with an output for a task of {list(shapes)}. "
            f"Received: model '{model.name}' with outputs {outputs!r}"
        )
    return dict.fromkeys(tasks, model)


def _checked(model: MultiTaskModel, task: str, shape: Shape) -> MultiTaskModel:
    if not isinstance(model, keras.Model):
        raise ValueError(f"The teacher of task '{task}' should be a Keras model. Received: {model!r}")
    output = _output_of(model, task)
    if isinstance(output, dict):
        if task not in output:
            raise ValueError(
                f"The teacher of task '{task}' should have an output for it. Received: model '{model.name}' with "
                f"outputs {list(output)}"
            )
        output = output[task]
    if not isinstance(output, keras.KerasTensor):
        raise ValueError(
            f"The teacher of task '{task}' should have one output, or a dict of them. Received: model '{model.name}' "
            f"with outputs {output!r}"
        )
    if tuple(output.shape[1:]) != tuple(shape[1:]):
        raise ValueError(
            f"The teacher of task '{task}' should have outputs of shape {tuple(shape)}, as the student has: the same "
            f"classes in the same order. Received: model '{model.name}' with outputs of shape {tuple(output.shape)}"
        )
    return model


def _output_of(model: MultiTaskModel, task: str) -> keras.KerasTensor:
    try:
        return model.output
    except (AttributeError, ValueError) as error:
        raise ValueError(
            f"The teacher of task '{task}' should be a functional or sequential model that is built, so that its "
            f"outputs are known. Received: model '{model.name}'"
        ) from error


def _says_logits(model: MultiTaskModel, task: str) -> bool | None:
    """Told from the last activation: True, False, or `None` where it does not say."""
    output = model.output[task] if isinstance(model.output, dict) else model.output
    layer = maker_of(output).operation
    while hasattr(layer, "stack") or isinstance(layer, keras.Sequential):
        layer = layer.stack[-1] if hasattr(layer, "stack") else layer.layers[-1]
    if isinstance(layer, keras.layers.Softmax):
        return False
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return {"softmax": False, "sigmoid": False, "linear": True}.get(activation)
