"""Building a student from its teachers."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import Tensor
from keras_mtl.distillation._teachers import Teachers, inputs_for
from keras_mtl.distillation.distiller import Distiller
from keras_mtl.models._arguments import check_task_names
from keras_mtl.models._stages import add_head
from keras_mtl.models.multi_task_model import MultiTaskModel


def distill(
    student: MultiTaskModel,
    teachers: keras.Model | Mapping[str, keras.Model | Sequence[keras.Model]],
    *,
    temperature: float | Mapping[str, float] = 1.0,
    annealing: str | float | Callable[[Tensor], Tensor] = "linear",
    steps: int | None = None,
    from_logits: bool | Mapping[str, bool] | None = None,
    hints: Mapping[str, tuple[str, keras.Model, str]] | None = None,
) -> Distiller:
    """Makes a model that trains a student on labels and on what teachers say.

    For an example with a label, the loss of a classification task is
    `g CE(label) + (1 - g) T^2 CE(softmax(z_teacher / T), softmax(z_student / T))`; a regression has the target
    `g y + (1 - g) y_teacher`. Examples without a label, also those of a pool without any, have the
    teacher's part alone. With the temperature T = 1, this is the target
    `g onehot(y) + (1 - g) softmax(z_teacher)`, and with `g` growing linearly from 0 to 1 it is the teacher
    annealing of BAM, in which single-task teachers hand over to the labels.

    Args:
        student: `keras_mtl.MultiTaskModel`.
        teachers: Dict from task to a Keras model or a list of them, whose
            probabilities are averaged; or one model whose outputs are a dict
            keyed by task. A teacher has one output, or a dict with one for the
            task; it takes the student's inputs, or some of a dict of them.
            Tasks without a teacher learn from labels alone. Teachers are not
            trained.
        temperature: Float, or a dict from task to one. T, of classifications.
            Above 1, the teachers' small probabilities count more. Defaults
            to 1.
        annealing: `"linear"`, a float from 0 to 1, or a function from the part
            of the steps that is done, a scalar tensor, to g. g is the weight of
            labels: 0 leaves the teachers alone, 1 the labels. Defaults to
            `"linear"`.
        steps: Integer. The number of training steps in all. Defaults to `None`:
            those of the call of `fit`.
        from_logits: Boolean, or a dict from task to one. Whether the teachers'
            outputs are logits. Defaults to `None`: as their last activation
            says, else as the student's loss.
        hints: Dict from a name to `(student_layer, teacher, teacher_layer)`:
            the student's layer of that name, through a linear map where its
            width is another, learns the features of the teacher's. Each is one
            more task of the model that is trained, with the loss `"mse"` unless
            `compile` has another, and a weight in `loss_weights`.

    Returns:
        A `Distiller`, a `keras_mtl.MultiTaskModel` with the layers of the
        student, to be compiled and fitted. `fit(pool)` without labels is
        training by the teachers alone.

    Raises:
        ValueError: If a task is unknown, a teacher has no output for its task,
            or one of another shape, or an option is out of range; at `compile`,
            if a task's loss is neither a crossentropy nor a regression.

    Example:

    >>> def build(tasks):
    ...     heads = {task: keras.layers.Dense(3, activation="softmax") for task in tasks}
    ...     return keras_mtl.hard_sharing(keras.Input((4,)), [keras.layers.Dense(8, activation="relu")], heads)
    >>> student, teachers = build(["a", "b"]), {task: build([task]) for task in ("a", "b")}
    >>> model = keras_mtl.distillation.distill(student, teachers, temperature=2.0, annealing=0.0)
    >>> model.compile("adam", loss="sparse_categorical_crossentropy")
    >>> history = model.fit(np.ones((16, 4)), verbose=0)  # an unlabelled pool
    >>> sorted(history.history)
    ['a_loss', 'a_weight', 'b_loss', 'b_weight', 'loss']

    References:

    - K. Clark et al., "BAM! Born-Again Multi-Task Networks for Natural Language Understanding", ACL 2019,
      arXiv:1907.04829.
    - G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
    - A. Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv:1412.6550. Deviation: hints are learned
      together with the tasks, not in a stage before.
    """
    if not isinstance(student, MultiTaskModel):
        raise ValueError(f"`student` should be a `keras_mtl.MultiTaskModel`. Received: student={student!r}")
    shapes = {task: tuple(student.output[task].shape) for task in student.tasks}
    teachers = Teachers(teachers, shapes, from_logits)
    temperature = temperature if isinstance(temperature, dict) else dict.fromkeys(teachers.tasks, temperature)  # type: ignore[arg-type]
    temperature = {**dict.fromkeys(teachers.tasks, 1.0), **temperature}
    if not all(value > 0 for value in temperature.values()):
        raise ValueError(f"`temperature` should be positive. Received: temperature={temperature}")
    if annealing != "linear" and not callable(annealing) and not _is_share(annealing):
        raise ValueError(
            f"`annealing` should be 'linear', a number from 0 to 1, or a function. Received: annealing={annealing!r}"
        )
    steps = check_integer(steps, "steps", 1, or_none=True)
    outputs, features = dict(student.output), {}
    for name, hint in (hints or {}).items():
        outputs[name], features[name] = _hint(student, name, hint)
    return Distiller(
        student.input,
        outputs,
        name=f"{student.name}_distilled",
        teachers=teachers,
        temperature=temperature,
        annealing=annealing,
        steps=steps,
        hints=features,
    )


def _is_share(annealing: object) -> bool:
    return isinstance(annealing, numbers.Real) and not isinstance(annealing, bool) and 0 <= float(annealing) <= 1


def _hint(
    student: MultiTaskModel, name: str, hint: tuple[str, keras.Model, str]
) -> tuple[keras.KerasTensor, Callable[..., Any]]:
    """A hint's output, and what gives its labels."""
    check_task_names([name])
    if name in student.tasks:
        raise ValueError(f"A hint should not have the name of a task. Received: {name!r}; tasks: {student.tasks}")
    if not isinstance(hint, (tuple, list)) or len(hint) != 3:
        raise ValueError(f"Hint '{name}' should be (student layer, teacher, teacher layer). Received: {hint!r}")
    layer, teacher, teacher_layer = hint
    learned, taught = _features(student, layer, name), _features(teacher, teacher_layer, name)
    if learned.shape[1:-1] != taught.shape[1:-1]:
        raise ValueError(
            f"The layers of hint '{name}' should have outputs that differ in the last axis at most. "
            f"Received: {tuple(learned.shape)} of the student and {tuple(taught.shape)} of the teacher"
        )
    same = learned.shape[-1] == taught.shape[-1]
    head = keras.layers.Identity() if same else keras.layers.Dense(taught.shape[-1], use_bias=False)
    model = keras.Model(teacher.input, taught)
    return add_head([head], learned, name), lambda x: model(inputs_for(model, x), training=False)


def _features(model: MultiTaskModel, layer: keras.Layer, name: str) -> keras.KerasTensor:
    names = [each.name for each in model.layers]
    if layer not in names:
        raise ValueError(
            f"Hint '{name}' should name a layer of model '{model.name}'. Received: {layer!r}; layers: {names}"
        )
    return model.get_layer(layer).output
