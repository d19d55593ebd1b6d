"""Calling stages and heads: shared ones as they are, columns as fresh copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_mtl._types import Inputs, Layers, Structure
from keras_mtl.layers import Stage
from keras_mtl.layers.stage import name_scope
from keras_mtl.models._copies import copy_layer, keep_state


def stage_label(stack: Sequence[keras.Layer], index: int) -> str:
    """Name of a stage within its owner: its layer's, or its place in the row."""
    return stack[0].name if len(stack) == 1 else f"stage_{index + 1}"


def add_shared(stacks: Sequence[Sequence[keras.Layer]], tensor: Inputs, first_index: int = 0) -> Inputs:
    """Calls stages one after the other as the shared trunk.

    Args:
        stacks: List of lists of layers.
        tensor: Keras tensor, or a structure of them, that the first one takes.
        first_index: Integer. Place of the first stage in the trunk.

    Returns:
        The output of the last stage.
    """
    for index, stack in enumerate(stacks, start=first_index):
        stage = Stage(stack, scope="shared", name=f"shared_{stage_label(stack, index)}")
        tensor = call_stage(stage, tensor, f"`stages[{index}]`")
    return tensor


def add_column(
    stacks: Sequence[Sequence[keras.Layer]],
    tensor: Inputs,
    scope: str,
    copy_weights: bool | None = False,
    first_index: int = 0,
    make: Callable[..., Any] = Stage,
) -> Inputs:
    """Calls fresh copies of stages one after the other as a column or an expert.

    Args:
        stacks: List of lists of layers.
        tensor: Keras tensor, or a structure of them, that the first one takes.
        scope: String. The owner of the copies: a task, a branch or an expert.
        copy_weights: Boolean. Whether the copies start from the weights of
            the given layers, as `check_copy_weights` says. Defaults to `False`.
        first_index: Integer. Place of the first stage in the trunk.
        make: Function that makes the stage from layers, `scope` and `name`.
            Defaults to `Stage`.

    Returns:
        The output of the last stage.
    """
    for index, stack in enumerate(stacks, start=first_index):
        stage = copy_stage(stack, scope, index, make)
        tensor = call_stage(stage, tensor, f"The copy of `stages[{index}]` for '{scope}'")
        keep_state(stack, stage.stack, copy_weights)
    return tensor


def add_unit(layer: Layers, tensors: Inputs, scope: str) -> Structure:
    """Calls a unit, gate or mask that mixes tensors on the way of its owner.

    Args:
        layer: Keras layer, or a list of layers.
        tensors: Keras tensor or list of them.
        scope: String. Where its variables are, such as `"left/units/conv"`.

    Returns:
        What the last layer returns.
    """
    stack = layer if isinstance(layer, list) else [layer]
    return Stage(stack, scope=scope, name=scope.replace("/", "_"))(tensors)


def add_head(stack: Sequence[keras.Layer], tensor: Inputs, task: str) -> keras.KerasTensor:
    """Calls a task's head.

    Args:
        stack: List of layers.
        tensor: Keras tensor, or a structure of them, that the head takes.
        task: String. The task.

    Returns:
        The task's output.
    """
    output = call_stage(Stage(stack, scope=task, name=task), tensor, f"The head of task '{task}'")
    if not isinstance(output, keras.KerasTensor):
        kind = (
            f"a dict of {list(output)}" if isinstance(output, dict) else f"a {type(output).__name__} of {len(output)}"
        )
        raise ValueError(
            f"The head of task '{task}' should return one tensor. Received: {kind}. Make each of them "
            "a task, with a head of its own and, where they have layers in common, these layers as the last stage; or "
            "join them with `keras.layers.Concatenate` and take them apart in the loss"
        )
    return output


def call_stage(stage: Stage | Callable[..., Any], tensor: Inputs, what: str) -> Structure:
    """Calls a stage and says whose input does not fit where it fails."""
    try:
        return stage(tensor)
    except Exception as error:
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), tensor)
        raise ValueError(
            f"{what} ('{stage.name}') should take what comes before it. Received: input of shape {shapes}. "
            f"The layer says: {error}"
        ) from error


def copy_stage(stack: Sequence[keras.Layer], scope: str, index: int, make: Callable[..., Any] = Stage) -> Stage:
    """Makes a stage of fresh copies of layers, with seeds of their own.

    Args:
        stack: List of layers.
        scope: String. The owner of the copies.
        index: Integer. Place of the stage in the trunk.
        make: Function that makes the stage from layers, `scope` and `name`.
            Defaults to `Stage`.

    Returns:
        A `keras_mtl.layers.Stage`. Once it is built, `keep_state` has to
        follow.
    """
    with name_scope(scope):  # functional models are built as they are made
        copies = [copy_layer(layer, tag=scope) for layer in stack]
    return make(copies, scope=scope, name=copy_name(stack, scope, index))


def copy_name(stack: Sequence[keras.Layer], scope: str, index: int) -> str:
    """Name of an owner's copy of a stage."""
    return f"{scope.replace('/', '_')}_{stage_label(stack, index)}"
