"""Experts and gates: what MMoE, CGC, PLE and DSelect-k have in common."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_mtl._checks import as_list, check_integer, check_number
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages, Structure
from keras_mtl.layers import ExpertMixture, Gate
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights, copy_stack, keep_state
from keras_mtl.models._stages import add_column, add_shared, add_unit
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def expert_stages(
    inputs: keras.KerasTensor, stages: Stages, heads: Heads, shared_depth: int, copy_weights: bool | None
) -> tuple[Inputs, list[list[keras.Layer]], dict[str, list[keras.Layer]], bool]:
    """Checks a builder's arguments and places the stages below the experts.

    Returns:
        Tuple of what the experts take, the stacks of an expert, the heads and
        whether experts start from the weights of the stages.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    shared_depth = check_integer(shared_depth, "shared_depth")
    if shared_depth >= len(stacks):
        raise ValueError(
            f"`shared_depth` should be below the number of stages, {len(stacks)}, so that at least one stage is left "
            f"for the experts. Received: shared_depth={shared_depth!r}"
        )
    copy_weights = check_copy_weights(copy_weights, stacks[shared_depth:], shared_depth)
    return add_shared(stacks[:shared_depth], inputs), stacks[shared_depth:], heads, copy_weights


def add_experts(
    stacks: Sequence[Sequence[keras.Layer]],
    tensor: keras.KerasTensor,
    scope: str,
    count: int,
    copy_weights: bool | None,
    first_index: int = 0,
) -> list[keras.KerasTensor]:
    """Calls `count` fresh copies of stages as experts.

    Returns:
        List of their outputs.
    """
    return [add_column(stacks, tensor, f"{scope}/expert_{i + 1}", copy_weights, first_index) for i in range(count)]


def softmax_gate(temperature: float, dropout: float) -> Callable[..., Gate]:
    """A function from the number of experts to a `Gate`; the options are checked where there is no gate too."""
    temperature = check_number(temperature, "gate_temperature", above=0)
    dropout = check_number(dropout, "gate_dropout", least=0, below=1)
    return functools.partial(Gate, temperature=temperature, dropout=dropout, name="softmax")


def add_gate(
    make_gate: Callable[..., Any],
    tensor: Inputs,
    count: int,
    owner: str,
    gate: Layers | None = None,
    label: str = "gate",
) -> keras.KerasTensor:
    """Calls a gate on what its experts take.

    Args:
        make_gate: Function from the number of experts to the gate's layer.
        tensor: Keras tensor, or a structure of them.
        count: Integer. How many experts there are.
        owner: String. `"shared"` or a task.
        gate: `None`, a Keras layer or a list of them to stand before it.
        label: String. The gate's name within its owner.

    Returns:
        The gate's output.
    """
    if gate is not None:
        given = as_list(gate)
        before = copy_stack(given, f"{owner}/{label}", "`gate`")
    else:
        given = before = _flattening(tensor)
    probabilities = add_unit([*before, make_gate(count)], tensor, f"{owner}/{label}")
    keep_state(given, before)
    return probabilities


def _flattening(tensor: keras.KerasTensor) -> list[keras.Layer]:
    flat = keras.tree.flatten(tensor)
    plain = tensor is flat[0] and "float" in flat[0].dtype and None not in flat[0].shape[1:]
    if not plain:
        shapes = [(tuple(x.shape), x.dtype) for x in flat]
        raise ValueError(
            "Without `gate`, gates take one float tensor of known shape. Give `gate=` the layers that make a feature "
            f"vector of what the experts take, or `shared_depth=` to share the stages that do. Received: {shapes}"
        )
    return [] if len(tensor.shape) == 2 else [keras.layers.Flatten(name="flatten")]


def add_mixture(
    gate: keras.KerasTensor, experts: Sequence[keras.KerasTensor], owner: str, label: str = "mixture"
) -> keras.KerasTensor:
    """Calls the sum of the experts' outputs, weighted by a gate."""
    return add_unit(ExpertMixture(name="mixture"), [gate, *experts], f"{owner}/{label}")


def gated(
    make_gate: Callable[..., keras.Layer],
    tensor: keras.KerasTensor,
    experts: Sequence[keras.KerasTensor],
    owner: str,
    gate: Layers | None = None,
    suffix: str = "",
) -> keras.KerasTensor:
    """Places a gate and its mixture; a lone expert needs neither.

    Returns:
        The mixture of the experts' outputs.
    """
    if len(experts) == 1:
        return experts[0]
    probabilities = add_gate(make_gate, tensor, len(experts), owner, gate, f"gate{suffix}")
    return add_mixture(probabilities, experts, owner, f"mixture{suffix}")


def extraction(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    levels: Callable[..., Any],
    *,
    shared_experts: int,
    task_experts: Structure,
    shared_depth: int,
    make_gate: Callable[..., Gate],
    gate: Layers | None,
    copy_weights: bool | None,
    depends_on: DependsOn | None,
    name: str | None,
) -> MultiTaskModel:
    """Builds levels of shared and task experts, each with its gates: one level is `cgc`, several are `ple`.

    `levels` is a function from the stacks of the stages above `shared_depth`
    to a list with the stacks of one expert for each level, `make_gate` one from
    the number of experts to the gate's layer. The other arguments are those of
    `ple`.

    Returns:
        A `MultiTaskModel`.
    """
    tensor, stacks, heads, copy_weights = expert_stages(inputs, stages, heads, shared_depth, copy_weights)
    levels, shared, own = levels(stacks), shared_experts, task_experts
    own = own if isinstance(own, dict) else dict.fromkeys(heads, own)
    if set(own) != set(heads):
        raise ValueError(f"The keys of `task_experts` should be the tasks {list(heads)}. Received: {list(own)}")
    shared = check_integer(shared, "shared_experts")
    own = {task: check_integer(count, "task_experts") for task, count in own.items()}
    for task, count in own.items():
        if count + shared == 0:
            raise ValueError(f"Task '{task}' should have at least one expert. Received: no shared and no task experts")
    paths, common, index = dict.fromkeys(heads, tensor), tensor, shared_depth
    for level, stacks in enumerate(levels):  # type: ignore[arg-type]
        suffix = f"_{level + 1}" if len(levels) > 1 else ""  # type: ignore[arg-type]
        for_all = add_experts(stacks, common, "shared", shared, copy_weights, index)
        for_one = {t: add_experts(stacks, paths[t], t, own[t], copy_weights, index) for t in heads}
        below, common_below = paths, common
        paths = {t: gated(make_gate, below[t], for_one[t] + for_all, t, gate, suffix) for t in heads}
        if shared and level < len(levels) - 1:  # type: ignore[arg-type]
            everything = [expert for t in heads for expert in for_one[t]] + for_all
            common = gated(make_gate, common_below, everything, "shared", gate, suffix)
        index += len(stacks)
    outputs = add_heads(heads, paths, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)
