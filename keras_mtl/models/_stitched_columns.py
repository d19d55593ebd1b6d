"""Columns with units between them: what cross-stitch, sluice and NDDR have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.layers import Stage
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, add_unit, stage_label
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def stitched(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    make_unit: Callable[..., Any],
    *,
    copy_weights: bool | None = None,
    make_stage: Callable[..., Any] = Stage,
    join: Callable[..., Any] | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model of K columns that mix their features after every stage.

    Each task has a layer of its own for its part of a unit, so that the graph
    says exactly which task depends on which variables.

    Args:
        inputs: Keras tensor, or a structure of them.
        stages: As every builder takes them.
        heads: As every builder takes them.
        make_unit: Function from a task's place to the layer that mixes the K
            columns' features for it.
        copy_weights: As every builder with columns takes it.
        make_stage: Function that makes a stage, as `add_column` takes it.
        join: `None`, or a function from a task and the list of its stitched
            features to what its head takes.
        depends_on: As every builder takes it.
        name: String. Name of the model.

    Returns:
        A `MultiTaskModel`.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    copy_weights = check_copy_weights(copy_weights, stacks)
    tensors = dict.fromkeys(heads, inputs)
    history = {task: [] for task in heads}
    for index, stack in enumerate(stacks):
        label = stage_label(stack, index)
        columns = [add_column([stack], tensors[t], t, copy_weights, index, make_stage) for t in heads]
        if not isinstance(columns[0], keras.KerasTensor):
            names = list(columns[0]) if isinstance(columns[0], dict) else [tuple(x.shape) for x in columns[0]]
            raise ValueError(
                f"`stages[{index}]` should return one tensor, which the columns exchange. Received: several, {names}"
            )
        for place, task in enumerate(heads):
            tensors[task] = add_unit(make_unit(place), columns, f"{task}/units/{label}")
            history[task].append(tensors[task])
    if join is not None:
        tensors = {task: join(task, features) for task, features in history.items()}
    outputs = add_heads(heads, tensors, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)
