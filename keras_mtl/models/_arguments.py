"""Checks of what every builder is given: inputs, stages, heads and task names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_mtl._checks import as_list
from keras_mtl._keras_private import maker_of
from keras_mtl._types import Heads, Inputs, Layers, Stages, Tasks

_TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # also a folder's name, so neither "." nor ".."
RESERVED = ("shared", "loss", "val")


def check_task_names(tasks: Tasks) -> tuple[str, ...]:
    """Raises where a task's name cannot be part of log and variable names.

    Args:
        tasks: Iterable of task names.

    Returns:
        Tuple of strings.
    """
    tasks = tuple(tasks)
    if not tasks:
        raise ValueError("A multi-task model should have at least one task. Received: no tasks")
    for task in tasks:
        if not isinstance(task, str) or not _TASK_NAME.fullmatch(task):
            raise ValueError(
                "A task's name should start with a letter or a digit and hold only letters, digits, '_', '-' and "
                "'.' (no spaces, no '/'), since it becomes part of the names of logs, variables and folders. "
                f"Received: task={task!r}"
            )
        if task in RESERVED:
            raise ValueError(f"The names {RESERVED} are taken and should not name a task. Received: task={task!r}")
    return tasks


def check_outputs(outputs: Mapping[str, keras.KerasTensor]) -> tuple[str, ...]:
    """Raises where `outputs` is not a dict from task to one Keras tensor.

    Args:
        outputs: What a `MultiTaskModel` is given.

    Returns:
        Tuple of the tasks' names.
    """
    if not isinstance(outputs, dict):
        flat = as_list(outputs)
        layers = [maker_of(x).operation if isinstance(x, keras.KerasTensor) else None for x in flat]
        names = [getattr(layer, "name", f"task_{i}") for i, layer in enumerate(layers)]
        line = ", ".join(f"{name!r}: outputs[{i}]" for i, name in enumerate(names))
        raise ValueError(
            "`outputs` should be a dict from task to Keras tensor"
            + (f", such as `outputs={{{line}}}`" if _is_list(outputs) and outputs else "")
            + f". Received: outputs={outputs!r}"
        )
    tasks = check_task_names(outputs)
    for task, output in outputs.items():
        if not isinstance(output, keras.KerasTensor):
            parts = list(output) if isinstance(output, dict) else range(len(output)) if _is_list(output) else []
            line = ", ".join(f"'{task}_{part}': output[{part!r}]" for part in parts)
            raise ValueError(
                f"The output of task '{task}' should be one Keras tensor"
                + (f"; each part can be a task of its own: `MultiTaskModel(inputs, {{{line}, ...}})`" if parts else "")
                + f". Received: {output!r}"
            )
    return tasks


def _is_list(value: Inputs) -> bool:
    return isinstance(value, (list, tuple))


def check_inputs(inputs: Inputs) -> Inputs:
    """Raises where `inputs` is not a Keras tensor or a structure of them."""
    flat = keras.tree.flatten(inputs)
    if not flat or not all(isinstance(x, keras.KerasTensor) for x in flat):
        raise ValueError(f"`inputs` should be a `keras.Input`, or a list or dict of them. Received: inputs={inputs!r}")
    return inputs


def check_stages(stages: Stages) -> list[list[keras.Layer]]:
    """Normalizes `stages` to a list of lists of layers.

    Args:
        stages: List; each item a Keras layer, `Sequential` or `Model`, or a
            list of layers.

    Returns:
        List of lists of layers.
    """
    if not isinstance(stages, (list, tuple)):
        raise ValueError(f"`stages` should be a list of Keras layers. Received: stages={stages!r}")
    stacks = [as_stack(stage, f"`stages[{i}]`") for i, stage in enumerate(stages)]
    _check_distinct([(f"`stages[{i}]`", layer) for i, stack in enumerate(stacks) for layer in stack])
    return stacks


def check_heads(heads: Heads) -> dict[str, list[keras.Layer]]:
    """Normalizes `heads` to a dict of lists of layers.

    Args:
        heads: Dict from task to a Keras layer or a list of layers.

    Returns:
        Dict from task to a list of layers.
    """
    if not isinstance(heads, dict):
        raise ValueError(f"`heads` should be a dict from task to Keras layer. Received: heads={heads!r}")
    check_task_names(heads)
    stacks = {task: as_stack(head, f"The head of task '{task}'") for task, head in heads.items()}
    _check_distinct([(f"the head of task '{task}'", layer) for task, stack in stacks.items() for layer in stack])
    return stacks


def as_stack(item: Layers, what: str) -> list[Any]:
    """Normalizes a layer or a list of layers to a list of layers."""
    stack = as_list(item)
    if not stack or not all(isinstance(layer, keras.layers.Layer) for layer in stack):
        raise ValueError(f"{what} should be a Keras layer or a non-empty list of Keras layers. Received: {item!r}")
    return stack


def _check_distinct(owned_layers: Sequence[tuple[str, keras.Layer]]) -> None:
    owners = {}
    for owner, layer in owned_layers:
        if id(layer) in owners:
            raise ValueError(
                f"Layer '{layer.name}' stands in {owners[id(layer)]} and again in {owner}: they would share weights "
                "unseen. Make one layer for each."
            )
        owners[id(layer)] = owner
