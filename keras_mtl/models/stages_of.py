"""Cutting functional backbones into stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._keras_private import calls_in, is_functional
from keras_mtl._types import Inputs, Structure

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def stages_of(model: keras.Model, cuts: Sequence[str]) -> list[keras.Model]:
    """Cuts a functional backbone into stages for the builders.

    The stages keep the backbone's layers and weights. Each stage ends with the
    output of the layer named in `cuts`; a last one holds the rest.

    What passes around a cut goes along with it: attention and padding masks
    that later stages take from the backbone's inputs, and skip connections.
    Such a stage returns a dict of the cut's output and of what goes along, by
    the names of the layers and inputs that they come from, and the next stage
    takes it. So a stage behind which tasks part or experts begin may return a
    dict; stitched columns and MTAN need stages that return one tensor.

    Args:
        model: Functional `keras.Model`, such as one of `keras.applications`
            with `include_top=False` or a backbone of keras-hub. The first
            stage takes the model's inputs as they are, one or a structure; the
            last one returns the model's outputs as they are.
        cuts: List of layer names in the order in which data passes them.

    Returns:
        List of `keras.Model`, one more than there are cuts (or as many, where
        the last cut is the model's output).

    Raises:
        ValueError: If the model is not functional, a name is no layer of the
            model, the layer is called more than once, the cuts are not in the
            order of the data, or a layer is called on both sides of a cut.

    Example:

    >>> backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, name="a"), keras.layers.Dense(4)])
    >>> [stage.output_shape for stage in keras_mtl.stages_of(backbone, cuts=["a"])]
    [(None, 6), (None, 4)]

    A skip connection from `low` passes the cut at `middle`:

    >>> inputs = keras.Input((8,))
    >>> low = keras.layers.Dense(6, name="low")(inputs)
    >>> high = keras.layers.Dense(6, name="high")(keras.layers.Dense(3, name="middle")(low))
    >>> backbone = keras.Model(inputs, keras.layers.Add()([low, high]))
    >>> sorted(keras_mtl.stages_of(backbone, cuts=["middle"])[0].output)
    ['low', 'middle']
    """
    graph = _functional(model)
    nodes = [node for node in calls_in(graph) if not node.is_input]
    ends = _ends(model, nodes, cuts)
    place = _places(nodes, ends, cuts)
    count = len(ends) if ends and _same(ends[-1].output_tensors, graph.outputs) else len(ends) + 1
    start = keras.tree.map_structure(_input_like, graph.input)
    known = _numbered(graph.input, start)
    stages = []
    for index, end in enumerate([*ends, None][:count]):
        for node in nodes:
            if place[id(node)] == index:
                args, kwargs = node.arguments.fill_in(known)
                known.update(_numbered(node.output_tensors, node.operation(*args, **kwargs)))
        name = cuts[index] if index < len(cuts) else f"{model.name}_rest"
        if index == count - 1:
            outputs = [known[id(x)] for x in keras.tree.flatten(graph.output)]
            outputs = keras.tree.pack_sequence_as(graph.output, outputs)
            stages.append(keras.Model(start, outputs, name=f"to_{name}"))
            break
        passing = _passing(graph, nodes, place, index, end)
        stages.append(keras.Model(start, _alone({key: known[id(x)] for key, x in passing.items()}), name=f"to_{name}"))
        after = {key: _input_like(x, key) for key, x in passing.items()}
        start, known = _alone(after), {id(x): after[key] for key, x in passing.items()}
    return stages


def _functional(model: MultiTaskModel) -> keras.Model | MultiTaskModel:
    if is_functional(model):
        return model
    try:
        return keras.Model(model.inputs, model.outputs[0])
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "`model` should be a functional `keras.Model`, or a `Sequential` with an `Input`: only a graph can be cut. "
            f"Received: model={model!r}"
        ) from error


def _ends(model: keras.Model, nodes: Sequence[Any], cuts: Sequence[str]) -> list[Any]:
    """The calls that the cuts name."""
    names = [layer.name for layer in model.layers]
    ends = []
    for cut in cuts:
        if cut not in names:
            raise ValueError(f"`cuts` should name layers of model '{model.name}'. Received: {cut!r}; layers: {names}")
        calls = [node for node in nodes if node.operation.name == cut]
        if len(calls) != 1:
            raise ValueError(
                f"`cuts` should name layers that model '{model.name}' calls once. Received: {cut!r}, which it calls "
                f"{len(calls)} times"
            )
        ends += calls
    return ends


def _places(nodes: Sequence[Any], ends: Sequence[Any], cuts: Sequence[str]) -> dict[int, int]:
    """The stage of each call, by its id: the first one whose end needs it."""
    made = {id(x): node for node in nodes for x in node.output_tensors}
    place = {}
    for index, end in enumerate(ends):
        if id(end) in place:
            raise ValueError(
                f"`cuts` should be passed one after the other. Received: cuts={list(cuts)}; '{cuts[index]}' comes "
                "before a cut that stands before it"
            )
        waiting = [end]
        while waiting:
            node = waiting.pop()
            if id(node) not in place:
                place[id(node)] = index
                waiting += [made[id(x)] for x in node.input_tensors if id(x) in made]
    where = {}
    for node in nodes:
        index = place.setdefault(id(node), len(ends))
        if getattr(node.operation, "variables", ()) and where.setdefault(id(node.operation), index) != index:
            raise ValueError(
                "`cuts` should not part the calls of one layer, whose weights two stages would share unseen. Received: "
                f"cuts={list(cuts)}; layer '{node.operation.name}' is called on both sides"
            )
    return place


def _passing(
    graph: keras.Model, nodes: Sequence[Any], place: Mapping[int, int], index: int, end: Structure
) -> dict[str, keras.KerasTensor]:
    """What later stages take from those up to `index`, by name; the output of the cut comes first."""
    later = [x for node in nodes if place[id(node)] > index for x in node.input_tensors]
    wanted = {id(x) for x in (*later, *graph.outputs)}
    made = [(tensor.name, [tensor]) for tensor in graph.inputs]
    made += [(node.operation.name, node.output_tensors) for node in nodes if place[id(node)] <= index]
    found = {}
    for name, tensors in [(end.operation.name, end.output_tensors), *made]:
        for number, tensor in enumerate(tensors):
            if (id(tensor) in wanted or tensors is end.output_tensors) and not any(x is tensor for x in found.values()):
                key = name if len(tensors) == 1 else f"{name}_{number + 1}"
                found[key if key not in found else f"{key}_{len(found)}"] = tensor
    return found


def _alone(tensors: Mapping[str, keras.KerasTensor]) -> keras.KerasTensor | Mapping[str, keras.KerasTensor]:
    return tensors if len(tensors) > 1 else next(iter(tensors.values()))


def _same(first: Sequence[keras.KerasTensor], second: Sequence[keras.KerasTensor]) -> bool:
    return [id(x) for x in first] == [id(x) for x in second]


def _input_like(tensor: keras.KerasTensor, name: str | None = None) -> keras.KerasTensor:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=name or tensor.name)


def _numbered(old: Inputs, new: Inputs) -> dict[int, keras.KerasTensor]:
    pairs = zip(keras.tree.flatten(old), keras.tree.flatten(new), strict=True)
    return {id(before): now for before, now in pairs}
