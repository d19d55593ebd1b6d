"""Grouping examples by layout, and predicting for mixed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._types import Structure, Tasks
from keras_mtl.layers import Stage
from keras_mtl.modular.layout_word import LayoutWord
from keras_mtl.modular.layouts import as_text, read_layout, signature, words
from keras_mtl.modular.neural_module import NeuralModule
from keras_mtl.modular.neural_module_network import check_words

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def group_by_layout(model: MultiTaskModel, layouts: Sequence[Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sorts examples by the signatures of their layouts.

    Args:
        model: A model of `keras_mtl.modular.neural_module_network`.
        layouts: List of layouts with words, one for each example, as
            `neural_module_network` takes them.

    Returns:
        Dict from signature to a tuple of two arrays: the rows of its examples,
        of shape `(n,)`, and their words as the model takes them, of shape
        `(n, slots)`.

    Raises:
        ValueError: If a signature is not a task of the model, or a word is
            unknown or missing.

    Example:

    >>> model = keras_mtl.modular.neural_module_network(
    ...     inputs=keras.Input((3, 3, 8), name="image"),
    ...     stages=[],
    ...     modules={"find": keras_mtl.modular.FindModule(), "answer": keras_mtl.modular.MeasureModule()},
    ...     layouts=["(is red)"],
    ...     vocabulary=["red", "blue"],
    ... )
    >>> keras_mtl.modular.group_by_layout(model, ["(is blue)", "(is red)"])
    {'find.answer': (array([0, 1]), array([[1], [0]], dtype=int32))}
    """
    modules, vocabulary, slots = _parts(model)
    index = {word: i for i, word in enumerate(vocabulary)}
    known, found = {}, {}
    for row, layout in enumerate(layouts):
        key = layout if isinstance(layout, (str, tuple)) else tuple(layout)
        if key not in known:
            known[key] = _read(layout, modules, vocabulary, index, model.tasks)
        task, numbers = known[key]
        rows, given = found.setdefault(task, ([], []))
        rows.append(row)
        given.append(numbers + [0] * (slots - len(numbers)))
    return {
        task: (np.array(found[task][0]), np.array(found[task][1], "int32")) for task in model.tasks if task in found
    }


def predict_by_layout(
    model: MultiTaskModel, x: Structure, layouts: Sequence[Any], batch_size: int | None = None
) -> np.ndarray:
    """Answers questions of any of a model's layouts, in their order.

    Args:
        model: A model of `keras_mtl.modular.neural_module_network`.
        x: What the questions are about: an array, or a dict by the names of
            the model's inputs, without the words.
        layouts: List of layouts with words, one for each example.
        batch_size: Integer. As in `predict`. Defaults to `None`.

    Returns:
        Array of the outputs, one row for each example.
    """
    answers = None
    for task, (rows, numbers) in group_by_layout(model, layouts).items():
        single = model.task_model(task)
        given = x if isinstance(x, dict) else {next(name for name in single.input if name != "words"): x}
        part = {name: numbers if name == "words" else given[name][rows] for name in single.input}
        found = single.predict(part, batch_size=batch_size, verbose=0)
        if answers is None:
            answers = np.zeros((len(layouts), *found.shape[1:]), found.dtype)
        answers[rows] = found
    return answers  # type: ignore[return-value]


def _parts(model: MultiTaskModel) -> tuple[dict[str, NeuralModule], list[str], int]:
    """Modules by name, vocabulary, and how many words an example has."""
    modules, vocabulary, slots = {}, [], 0
    for layer in model.layers:
        module = layer.stack[-1] if isinstance(layer, Stage) else None
        if isinstance(module, NeuralModule):
            modules[layer.name.removeprefix("shared_")] = module
        if isinstance(layer, LayoutWord):
            vocabulary, slots = layer.vocabulary, max(slots, layer.slot + 1)
    if not modules:
        raise ValueError(
            "`model` should be one of `keras_mtl.modular.neural_module_network`. "
            f"Received: model '{model.name}', which has no modules"
        )
    return modules, vocabulary, slots


def _read(
    layout: tuple[Any, ...],
    modules: Mapping[str, NeuralModule],
    vocabulary: Sequence[str],
    index: Mapping[Any, int],
    tasks: Tasks,
) -> tuple[str, list[int]]:
    read = read_layout(layout, modules)
    task, given = signature(read), words(read, modules)
    if task not in tasks:
        raise ValueError(
            f"The signatures of layouts should be tasks of the model, {tasks}. Received: {task} of {as_text(read)}"
        )
    if None in given:
        raise ValueError(f"Every module that takes a word should have one. Received: {as_text(read)}")
    check_words(read, given, vocabulary)
    return task, [index[word] for word in given]
