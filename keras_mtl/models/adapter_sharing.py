"""Tasks as adapters on one frozen trunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Stages, Structure
from keras_mtl.layers import BottleneckAdapter, LoRAKernels, LoRAStage, Stage
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._stages import add_unit, call_stage, stage_label
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel

KINDS = ("lora", "bottleneck")


def adapter_sharing(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    kind: Literal["lora", "bottleneck"] = "lora",
    rank: int = 8,
    shared: int = 0,
    alpha: float | None = None,
    activation: str = "gelu",
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model whose trunk is frozen, and whose tasks have small adapters on it.

    With `kind="lora"`, task k computes with the kernels `W + alpha / rank * A_k B_k` of low rank, in every layer
    that Keras' own LoRA takes (`Dense`, `EinsumDense`, `Embedding`, convolutions), nested ones too; with
    `kind="bottleneck"`, each stage is followed by `h + f(h W_1) W_2`, a narrow network of the task's own. Both
    begin as the trunk that was given, which is in memory once, whatever the number of tasks.

    What all tasks should learn together goes into adapters that they share, `shared`; with `rank=0` these are
    the only ones, and the trunk is computed once for all tasks. Else it is computed once for each.

    The stages are frozen: `trainable` of the given layers becomes `False`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers), as a rule pretrained ones. They are these very layers.
        heads: Dict from task name to a Keras layer or a list of layers. Heads are trained as ever.
        kind: `"lora"` or `"bottleneck"`. Defaults to `"lora"`.
        rank: Integer. Rank, or hidden size, of each task's own adapters; 0 for none. Defaults to 8.
        shared: Integer. Rank, or hidden size, of the adapters that all tasks share; 0 for none. Defaults to 0.
        alpha: Float. Scale of the changes of low rank, times `rank`. Defaults to `None`: the rank.
        activation: f of bottleneck adapters. Defaults to `"gelu"`.
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`.

    Raises:
        ValueError: If both ranks are 0, a stage has no layer that takes LoRA, or LoRA is enabled in it already.

    Example:

    >>> trunk = keras.layers.Dense(16, activation="relu")
    >>> model = keras_mtl.adapter_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[trunk],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     rank=2,
    ... )
    >>> sum(int(np.prod(v.shape)) for v in model.trainable_variables)  # 2 * (2 * (20 + 16) + 17)
    178

    References:

    - E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv:2106.09685.
    - N. Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv:1902.00751.

    Deviations: Keras' `enable_lora` gives a layer one change, here each task has its own of the same form. Houlsby
    et al. put two adapters into every transformer block and train its normalizations too; here one follows each
    stage, so that blocks are stages of their own.
    """
    check_inputs(inputs)
    if kind not in KINDS:
        raise ValueError(f"`kind` should be one of {KINDS}. Received: kind={kind!r}")
    stacks, heads = check_stages(stages), check_heads(heads)
    ranks = {"shared": check_integer(shared, "shared"), "own": check_integer(rank, "rank")}
    if not any(ranks.values()) or not stacks:
        raise ValueError(
            "`rank`, `shared` or both should be at least 1, and there should be a stage to adapt. "
            f"Received: rank={rank!r}, shared={shared!r}, {len(stacks)} stages"
        )
    paths = dict.fromkeys(heads, inputs)
    for index, stack in enumerate(stacks):
        label = stage_label(stack, index)
        if kind == "lora":
            paths = _with_changes(stack, paths, label, index, ranks, alpha, keras.tree.flatten(inputs)[0])
        else:
            paths = _with_bottlenecks(stack, paths, label, index, ranks, activation)
    return MultiTaskModel(inputs, add_heads(heads, paths, depends_on), name=name)


def _with_changes(
    stack: Sequence[keras.Layer],
    paths: Mapping[str, keras.KerasTensor],
    label: str,
    index: int,
    ranks: Mapping[str, int],
    alpha: float | None,
    root: keras.KerasTensor,
) -> dict[str, Inputs]:
    """The output of a stage on each task's path, computed with the task's kernels."""
    first = next(iter(paths.values()))
    stage = _frozen(LoRAStage, stack, label)
    # Kernels have shapes once the stage is built, which the output of a call with none changed says how.
    call_stage(_Unchanged(stage), first, f"`stages[{index}]`")
    for layer in stage.lora_layers():
        if getattr(layer, "lora_enabled", False):
            raise ValueError(
                f"`stages[{index}]` should have no LoRA of its own, since tasks get theirs. Received: layer "
                f"'{layer.name}' with LoRA enabled; save and load it without, or merge it first"
            )
    shapes = [tuple(kernel.shape) for kernel in stage.kernels()]

    def changes(owner: str, rank: int) -> list[keras.KerasTensor]:
        # They stand behind the input, not behind features, which would be those of one task.
        layer = LoRAKernels(shapes, rank, alpha, name="lora")
        return list(add_unit(layer, root, f"{owner}/{label}_lora"))

    common = changes("shared", ranks["shared"]) if ranks["shared"] else []
    call, found = _once_each(stage, index), {}
    for task, tensor in paths.items():
        own = changes(task, ranks["own"]) if ranks["own"] else []
        found[task] = call({"inputs": tensor, "changes": [*common, *own]})
    return found


def _with_bottlenecks(
    stack: Sequence[keras.Layer],
    paths: Mapping[str, keras.KerasTensor],
    label: str,
    index: int,
    ranks: Mapping[str, int],
    activation: str,
) -> dict[str, keras.KerasTensor]:
    """The output of a stage on each task's path, and what its adapters make of it."""

    def adapter(owner: str, rank: int) -> Stage:
        scope = f"{owner}/{label}_adapter"
        return Stage([BottleneckAdapter(rank, activation, name="adapter")], scope, name=scope.replace("/", "_"))

    call = _once_each(_frozen(Stage, stack, label), index)
    common = _once_each(adapter("shared", ranks["shared"]), index) if ranks["shared"] else None
    found = {}
    for task, tensor in paths.items():
        features = call(tensor)
        if not isinstance(features, keras.KerasTensor):
            raise ValueError(
                f"`stages[{index}]` should return one tensor for a bottleneck adapter to take. "
                f"Received: {keras.tree.map_structure(lambda x: tuple(x.shape), features)}"
            )
        features = features if common is None else common(features)
        found[task] = adapter(task, ranks["own"])(features) if ranks["own"] else features
    return found


def _frozen(make: type[Stage], stack: Sequence[keras.Layer], label: str) -> Stage:
    stage = make(stack, scope="shared", name=f"shared_{label}")
    stage.trainable = False
    return stage


def _once_each(stage: Stage, index: int) -> Callable[[Structure], Structure]:
    """A function that calls a stage, once for all tasks that are still on one path."""
    known = {}

    def call(tensors: Structure) -> Structure:
        key = tuple(id(x) for x in keras.tree.flatten(tensors))
        if key not in known:
            known[key] = call_stage(stage, tensors, f"`stages[{index}]`"), tensors
        return known[key][0]

    return call


class _Unchanged:
    """A stage that takes its inputs alone, to be built."""

    def __init__(self, stage: Stage) -> None:
        self.name, self._stage = stage.name, stage

    def __call__(self, tensor: Inputs) -> Structure:
        return self._stage.compute_output_spec({"inputs": tensor, "changes": []})
