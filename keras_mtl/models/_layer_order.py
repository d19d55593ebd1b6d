"""The depth of each layer in a functional model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras

from keras_mtl._keras_private import calls_of

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def levels_of(model: keras.Model) -> list[list[keras.Layer]]:
    """Layers with variables by depth, from the inputs to the outputs.

    A layer's level is one more than the highest one among those before it; layers without
    variables do not count. Layers on the last level of their path, the tasks' heads, are moved to
    the last level of the model, whatever the length of their path.

    Args:
        model: Functional `keras.Model`.

    Returns:
        List of lists of layers.
    """
    made_by, level = {}, {}
    for operation in model.operations:
        before = [] if isinstance(operation, keras.layers.InputLayer) else _inputs(operation)
        depth = max((level[made_by[id(x)]] for x in before if id(x) in made_by), default=0)
        level[id(operation)] = depth + bool(getattr(operation, "variables", ()))
        made_by.update({id(x): id(operation) for x in _outputs(operation)})
    deepest = max(level.values(), default=0)
    followed = _followed(model, made_by)
    found = [[] for _ in range(deepest)]
    for layer in model.layers:
        if layer.variables:
            last = id(layer) not in followed
            found[deepest - 1 if last else level[id(layer)] - 1].append(layer)
    return [of_level for of_level in found if of_level]


def _followed(model: MultiTaskModel, made_by: Mapping[int, int]) -> set[int]:
    """Ids of the layers behind which there is another layer with variables."""
    before = {}
    followed = set()
    for operation in model.operations:
        if isinstance(operation, keras.layers.InputLayer):
            before[id(operation)] = set()
            continue
        sources = {made_by[id(x)] for x in _inputs(operation) if id(x) in made_by}
        behind = set().union(sources, *(before.get(source, set()) for source in sources))
        before[id(operation)] = behind
        if getattr(operation, "variables", ()):
            followed |= behind
    return followed


def _inputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    return [x for node in calls_of(operation) for x in node.input_tensors]


def _outputs(operation: keras.Operation) -> list[keras.KerasTensor]:
    return [x for node in calls_of(operation) for x in node.output_tensors]
