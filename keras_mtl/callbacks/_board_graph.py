"""The model's graph as TensorBoard draws it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import keras

from keras_mtl._keras_private import calls_in
from keras_mtl.layers import Stage

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    from keras_mtl.models.multi_task_model import MultiTaskModel


def graph_def(model: MultiTaskModel) -> GraphDef:
    """A `GraphDef` of a model's layers, each within its owner.

    TensorBoard reads Keras' own description of functional models of one output
    only, and the graph of TensorFlow's operations hides who shares what.

    Args:
        model: A `MultiTaskModel`.

    Returns:
        `GraphDef` protocol buffer. A node is a call of a layer; it lies in the
        box of its owner, `shared` or a task, and of its stage. A layer that is
        called several times, as for tasks with inputs of their own, has its
        parameters at the first.
    """
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    made = {}  # the node that makes a tensor, by the tensor's id
    taken, drawn = set(), set()
    for call in calls_in(model):
        operation = call.operation
        inputs = [made[id(tensor)] for tensor in call.input_tensors]
        name = _unique(_path(operation, model), taken)
        layers = operation.stack if isinstance(operation, Stage) else [operation]
        for layer in layers:
            path = _unique(f"{name}/{layer.name}", taken) if isinstance(operation, Stage) else name
            outputs = call.output_tensors if layer is layers[-1] else ()
            inputs = [_add(graph, path, layer, inputs, outputs, model, operation, new=id(operation) not in drawn)]
        drawn.add(id(operation))
        made.update({id(tensor): inputs[0] for tensor in call.output_tensors})
    return graph


def _add(
    graph: GraphDef,
    name: str,
    layer: keras.Layer,
    inputs: Sequence[str],
    outputs: Collection[int],
    model: MultiTaskModel,
    operation: keras.Operation,
    new: bool,
) -> str:
    node = graph.node.add(name=name, op=type(layer).__name__, input=dict.fromkeys(inputs))
    node.attr["tasks"].s = ", ".join(model.sharing.tasks_of(operation)).encode()
    if new and getattr(layer, "variables", None):
        node.attr["parameters"].i = layer.count_params()
        node.attr["trainable"].b = bool(layer.trainable_variables)
    for tensor in outputs:
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in tensor.shape:  # type: ignore[attr-defined]
            shape.dim.add(size=-1 if size is None else size)
    return name


def _path(operation: keras.Operation, model: MultiTaskModel) -> str:
    """Owner and name of an operation, in the characters that TensorBoard takes."""
    served = model.sharing.tasks_of(operation)
    owner = served[0] if len(served) == 1 else "shared" if served else ""
    scope = getattr(operation, "scope", owner)
    name = operation.name.removeprefix(f"{scope.replace('/', '_')}_")
    if isinstance(operation, keras.layers.InputLayer):
        scope = ""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", f"{scope}/{name}" if scope else name)


def _unique(name: str, taken: set[str]) -> str:
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found
