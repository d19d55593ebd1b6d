"""The model's graph as TensorBoard draws it."""

import re

import keras

from keras_mtl.layers import Stage


def graph_def(model):
    """A `GraphDef` of a model's layers, each within its owner.

    TensorBoard reads Keras' own description of functional models of one output
    only, and the graph of TensorFlow's operations hides who shares what.

    Args:
        model: A `MultiTaskModel`.

    Returns:
        `GraphDef` protocol buffer. A node is a layer; it lies in the box of
        its owner, `shared` or a task, and of its stage.
    """
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    made = {}  # the node that makes a tensor, by the tensor's id
    taken = set()
    for operation in model.operations:
        is_input = isinstance(operation, keras.layers.InputLayer)
        inputs = [] if is_input else [made[id(tensor)] for tensor in keras.tree.flatten(operation.input)]
        name = _unique(_path(operation, model), taken)
        if isinstance(operation, Stage):
            for layer in operation.stack:
                inputs = [_add(graph, _unique(f"{name}/{layer.name}", taken), layer, inputs, model, operation)]
            name = inputs[0]
        else:
            _add(graph, name, operation, inputs, model, operation)
        made.update({id(tensor): name for tensor in keras.tree.flatten(operation.output)})
    return graph


def _add(graph, name, layer, inputs, model, operation):
    node = graph.node.add(name=name, op=type(layer).__name__, input=dict.fromkeys(inputs))
    node.attr["tasks"].s = ", ".join(model.sharing.tasks_of(operation)).encode()
    if getattr(layer, "variables", None):
        node.attr["parameters"].i = layer.count_params()
        node.attr["trainable"].b = bool(layer.trainable_variables)
    last = layer is operation or layer is operation.stack[-1]
    for tensor in keras.tree.flatten(operation.output) if last else ():
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in tensor.shape:
            shape.dim.add(size=-1 if size is None else size)
    return name


def _path(operation, model):
    """Owner and name of an operation, in the characters that TensorBoard takes."""
    served = model.sharing.tasks_of(operation)
    owner = served[0] if len(served) == 1 else "shared" if served else ""
    scope = getattr(operation, "scope", owner)
    name = operation.name.removeprefix(f"{scope.replace('/', '_')}_")
    if isinstance(operation, keras.layers.InputLayer):
        scope = ""
    return re.sub(r"[^A-Za-z0-9_.\-/]", "_", f"{scope}/{name}" if scope else name)


def _unique(name, taken):
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found
