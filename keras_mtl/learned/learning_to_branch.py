"""Learning to branch: a tree of stages found while it is trained."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.learned.gumbel_gate import GumbelGate
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights, copy_layer, keep_state
from keras_mtl.models._experts import add_gate, add_mixture
from keras_mtl.models._stages import add_column, copy_name, stage_label
from keras_mtl.models.branched_sharing import branched_sharing
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def learning_to_branch(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    num_branches: int | None = None,
    temperature: float = 10.0,
    decay: float = 0.999,
    min_temperature: float = 0.5,
    warmup_steps: int = 0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a network in which each branch and each head learns whose child it is.

    Every stage has B branches, each a copy of it. Branch b of stage i takes the
    output of one branch of stage i - 1, drawn anew for each training step by a
    Gumbel-softmax with the branch's own logits, and so does each head with the
    last stage: `x_ib = f_ib(sum_j v_bj x_(i-1)j)`, `v_b` one-hot. As the
    temperature falls the draws settle on a tree, which prediction takes from
    the largest logits and `extract_branches` turns into a model of its own.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers), each returning one
            tensor. Every branch gets copies made from their configs, with
            seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        num_branches: Integer. B. Defaults to `None`: the number of tasks.
        temperature: Float. Temperature of the Gumbel-softmax at the first step.
            Defaults to 10.
        decay: Float. The temperature is multiplied by it at each step.
            Defaults to 0.999.
        min_temperature: Float. The temperature falls no further. Defaults to
            0.5.
        warmup_steps: Integer. Training steps in which each child takes the
            mean of all parents. Defaults to 0.
        copy_weights: `None` or boolean. Whether all branches start from the
            given stages' weights, which have to be built. Defaults to `None`:
            every copy starts anew, and weights that would be lost are refused
            (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. `sharing_coefficients()` gives each
        child's probabilities over its parents.

    Raises:
        ValueError: If there are no branches, or a stage does not return one
            tensor.

    Example:

    >>> model = keras_mtl.learned.learning_to_branch(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, name="low"), keras.layers.Dense(8, name="high")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.sharing_coefficients()["a/parent"].tolist()
    [0.5, 0.5]
    >>> keras_mtl.learned.branches_of(model)
    [[['a', 'b']], [['a', 'b']]]
    >>> keras_mtl.learned.extract_branches(model).count_params() < model.count_params()
    True

    Reference:

    - P. Guo, C.-Y. Lee and D. Ulbricht, "Learning to Branch for Multi-Task Learning", ICML 2020.

    Deviations: the first stage too has a branch for each task, all of them on
    the inputs, so that tasks may share nothing. The temperature falls by
    training steps, and the warm-up takes the mean of the parents.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    copy_weights = check_copy_weights(copy_weights, stacks)
    count = check_integer(num_branches, "num_branches", 1, or_none=True) or len(heads)
    make_gate = functools.partial(
        GumbelGate,
        temperature=temperature,
        decay=decay,
        min_temperature=min_temperature,
        hard=True,
        warmup_steps=warmup_steps,
        name="choose",
    )
    make_gate(2)  # children of one parent have no gate, but the options are checked all the same

    def chosen(parents: Sequence[keras.KerasTensor], owner: str, label: str) -> keras.KerasTensor:
        if len(parents) == 1:
            return parents[0]
        gate = add_gate(make_gate, keras.tree.flatten(inputs)[0], len(parents), owner, gate=[], label=label)
        return add_mixture(gate, parents, owner, f"{label}_mixture")

    scopes = [_branch(i) for i in range(count)]
    tensors = [inputs] * count
    for index, stack in enumerate(stacks):
        label = f"parent_of_{stage_label(stack, index)}"
        if index:
            tensors = [chosen(tensors, scope, label) for scope in scopes]
        pairs = zip(tensors, scopes, strict=True)
        tensors = [add_column([stack], tensor, scope, copy_weights, index) for tensor, scope in pairs]
    mixed = {task: chosen(tensors, task, "parent") for task in heads}
    outputs = add_heads(heads, mixed, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)


def branches_of(model: MultiTaskModel) -> list[list[list[str]]]:
    """The tree that a model of `learning_to_branch` has come to.

    Args:
        model: What `learning_to_branch` returned, trained or not.

    Returns:
        List with an entry for each stage: the groups of tasks that share it,
        as `branched_sharing` takes them.

    Raises:
        ValueError: If the model is another one.
    """
    _, paths = _paths(model)
    tree = []
    for index in range(len(next(iter(paths.values())))):
        groups = {}
        for task, path in paths.items():
            groups.setdefault(path[index], []).append(task)
        tree.append(list(groups.values()))
    return tree


def extract_branches(model: MultiTaskModel, name: str | None = None) -> MultiTaskModel:
    """The tree that a model of `learning_to_branch` has come to, as a model.

    Args:
        model: What `learning_to_branch` returned, without `depends_on`.
        name: String. Name of the new model.

    Returns:
        A `keras_mtl.MultiTaskModel` made by `branched_sharing`, not compiled,
        that holds only what the tasks use, with the same weights and so the
        same predictions.

    Raises:
        ValueError: If the model is another one.
    """
    nodes, paths = _paths(model)
    some = next(iter(paths.values()))
    stages = [[copy_layer(layer, tag="extracted") for layer in nodes[i][b].stack] for i, b in enumerate(some)]
    heads = {task: [copy_layer(layer, tag=task) for layer in model.get_layer(task).stack] for task in model.tasks}
    tree = branches_of(model)
    extracted = branched_sharing(_fresh(model.input), stages, heads, branches=tree, name=name)
    for index, groups in enumerate(tree):
        for group in groups:
            source = nodes[index][paths[group[0]][index]]
            if len(group) == len(model.tasks) > 1:
                scope = "shared"
            else:
                scope = group[0] if len(group) == 1 else f"shared/{'_and_'.join(group)}"
            copied = extracted.get_layer(copy_name(stages[index], scope, index))
            keep_state(source.stack, copied.stack, weights=True)
    for task in model.tasks:
        keep_state(model.get_layer(task).stack, extracted.get_layer(task).stack, weights=True)
    return extracted


def _branch(index: int) -> str:
    return f"shared/branch_{index + 1}"


def _paths(model: MultiTaskModel) -> tuple[list[tuple[keras.Layer, ...]], dict[str, list[int]]]:
    """Stages by place and branch, and for each task its branch at each stage."""
    by_scope = {}
    if not isinstance(model, MultiTaskModel):
        raise ValueError(f"`model` should be one that `learning_to_branch` made. Received: {model!r}")
    for layer in model.layers:
        if re.fullmatch(r"shared/branch_\d+", getattr(layer, "scope", "")):
            by_scope.setdefault(layer.scope, []).append(layer)
    columns = [by_scope[_branch(i)] for i in range(len(by_scope))]
    if not columns:
        raise ValueError(f"`model` should be one that `learning_to_branch` made. Received: model '{model.name}'")
    nodes = list(zip(*columns, strict=True))
    gates = {layer.scope: layer.mixer for layer in model.layers if getattr(layer, "mixer", None) is not None}

    def parent(scope: str) -> int:
        return int(gates[scope].coefficients().argmax()) if scope in gates else 0

    paths = {}
    for task in model.tasks:
        path = [parent(f"{task}/parent")]
        for index in range(len(nodes) - 1, 0, -1):
            label = nodes[index][0].name.removeprefix(f"{_branch(0).replace('/', '_')}_")
            path.append(parent(f"{_branch(path[-1])}/parent_of_{label}"))
        paths[task] = path[::-1]
    return nodes, paths


def _fresh(inputs: Inputs) -> Inputs:
    return keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name), inputs)
