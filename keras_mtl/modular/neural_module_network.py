"""Neural module networks: networks put together from modules, as each example's layout says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from keras_mtl._types import Inputs, Stages, Structure
from keras_mtl.layers import Stage
from keras_mtl.models._arguments import check_inputs, check_stages
from keras_mtl.models._stages import add_shared, call_stage
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.modular.layout_word import LayoutWord
from keras_mtl.modular.layouts import as_text, nodes, read_layout, signature, words
from keras_mtl.modular.neural_module import NeuralModule


def neural_module_network(
    inputs: Inputs,
    stages: Stages,
    modules: Mapping[str, NeuralModule],
    layouts: Sequence[Any],
    *,
    vocabulary: Sequence[str] = (),
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a network for each layout, all of the same modules.

    A question such as "is there something red above a square?" has a layout,
    `answer(and(find[red], transform[above](find[square])))`. Layouts that
    differ in words alone have one signature, `find.find.transform.and.answer`,
    which is a task of the model: its network calls the modules in that order,
    with the example's words as input. All networks share the stages and the
    modules.

    `keras_mtl.modular.group_by_layout` sorts examples by signature, and
    `keras_mtl.own_inputs(model)` with `keras_mtl.data.mix(..., inputs="own")`
    trains on batches of one signature each, of which no other network sees
    anything. `keras_mtl.modular.predict_by_layout` answers mixed questions.

    Args:
        inputs: `keras.Input`, or a list or dict of them: what questions are
            about.
        stages: List of Keras layers (or lists of layers) that make features of
            it, of shape `(batch, height, width, channels)` for the modules of
            the package.
        modules: Dict from name to `keras_mtl.modular.NeuralModule`, such as
            `FindModule`, `TransformModule`, `CombineModule`, `MeasureModule`
            and `DescribeModule`.
        layouts: List of layouts, with or without words: nested tuples
            `(module, word, *arguments)`, lists of RPN tokens, such as
            `"find[red]"` or `"_Find"`, or queries (see
            `keras_mtl.modular.query_layout`). What counts is their signatures.
        vocabulary: List of strings. All words that may go with a module.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel` whose tasks are the signatures. Its inputs
        are a dict by name: those that were given, and `"words"`, integers of
        shape `(batch, slots)`: the numbers in `vocabulary` of a layout's
        words, in the order of the signature.

    Raises:
        ValueError: If modules of a layout do not fit together by type, which
            is said with their names and place; or a word or module is unknown.

    Example:

    >>> modules = {
    ...     "find": keras_mtl.modular.FindModule(),
    ...     "transform": keras_mtl.modular.TransformModule(),
    ...     "and": keras_mtl.modular.CombineModule(),
    ...     "answer": keras_mtl.modular.MeasureModule(),
    ... }
    >>> model = keras_mtl.modular.neural_module_network(
    ...     inputs=keras.Input((3, 3, 8), name="image"),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     modules=modules,
    ...     layouts=["(is red blue)", "(is red (above blue))"],
    ...     vocabulary=["red", "blue", "above"],
    ... )
    >>> model.tasks
    ('find.find.and.answer', 'find.find.transform.and.answer')

    Reference:

    - J. Andreas et al., "Neural Module Networks", CVPR 2016.

    Deviations: layouts are given, and there is no recurrent network beside
    them that reads the question's words.
    """
    check_inputs(inputs)
    stacks, vocabulary = check_stages(stages), list(vocabulary)
    if len(set(vocabulary)) < len(vocabulary):
        twice = sorted({word for word in vocabulary if vocabulary.count(word) > 1})
        raise ValueError(f"`vocabulary` should have each word once. Received: {twice} more than once")
    _check_modules(modules)
    read = [read_layout(layout, modules) for layout in layouts]
    if not read:
        raise ValueError("`layouts` should have at least one layout. Received: no layouts")
    for layout in read:
        check_words(layout, words(layout, modules), vocabulary)
    by_signature = {signature(layout): layout for layout in read}
    slots = max(len(words(layout, modules)) for layout in by_signature.values())
    if slots and not vocabulary:
        raise ValueError("`vocabulary` should have the words that go with modules. Received: no words")
    given = dict(inputs) if isinstance(inputs, dict) else {x.name: x for x in keras.tree.flatten(inputs)}
    features = add_shared(stacks, inputs)
    vectors = []
    if slots:
        given["words"] = keras.Input((slots,), dtype="int32", name="words")
        vectors = [LayoutWord(i, vocabulary, name=f"word_{i + 1}")(given["words"]) for i in range(slots)]
    placed = {key: Stage([module], scope="shared", name=f"shared_{key}") for key, module in modules.items()}
    outputs = {task: _assemble(layout, modules, placed, features, vectors) for task, layout in by_signature.items()}
    return MultiTaskModel(given, outputs, name=name)


def _assemble(
    layout: tuple[Any, ...],
    modules: Mapping[str, NeuralModule],
    placed: Mapping[str, Stage],
    features: keras.KerasTensor,
    vectors: Structure,
) -> keras.KerasTensor:
    """Calls the modules of a layout, from the leaves to the root."""
    stack, vectors = [], iter(vectors)
    for node in nodes(layout):
        module = modules[node[0]]
        word = [next(vectors)] if module.takes_word else []
        start = len(stack) - len(module.takes)
        arguments, stack = stack[start:], stack[:start]
        what = f"Module '{node[0]}' of layout {as_text(layout)}"
        stack.append(call_stage(placed[node[0]], [features, *word, *arguments], what))
    return stack[0]


def _check_modules(modules: Mapping[str, NeuralModule]) -> None:
    if not isinstance(modules, dict) or not modules:
        raise ValueError(f"`modules` should be a dict from name to module. Received: modules={modules!r}")
    for key, module in modules.items():
        if not isinstance(module, NeuralModule):
            raise ValueError(f"Module '{key}' should be a `keras_mtl.modular.NeuralModule`. Received: {module!r}")


def check_words(layout: tuple[Any, ...], given: Sequence[str | None], vocabulary: Collection[str]) -> None:
    """Raises where a layout has a word that is not in the vocabulary."""
    unknown = [word for word in given if word is not None and word not in vocabulary]
    if unknown:
        raise ValueError(
            f"The words of layouts should be in `vocabulary`, {vocabulary}. Received: {unknown} in {as_text(layout)}"
        )
