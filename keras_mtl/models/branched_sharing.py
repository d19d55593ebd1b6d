"""Branched sharing: a tree of stages, of which hard sharing is the special case."""

from __future__ import annotations

from collections.abc import Sequence

from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, add_shared
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def branched_sharing(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    branches: Sequence[Sequence[Sequence[str]]],
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model in which groups of tasks share stages and then part.

    `branches[i]` says which tasks share stage i. Groups may split from one
    stage to the next, and never merge again, so the stages form a tree. With
    all tasks in one group up to some depth and each on its own after it, this
    is hard sharing.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). A stage that all
            tasks share is these very layers; branches get copies made from
            their configs, with seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        branches: List with an entry for each stage: a list of groups, each a
            list of tasks. Every task is in one group of each entry.
        copy_weights: `None` or boolean. Whether the branches' copies start from
            the given stages' weights, which have to be built. Defaults to
            `None`: every copy starts anew, and weights that would be lost are
            refused (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. Variables of a branch of several tasks
        are `shared/<task>_and_<task>/...`.

    Raises:
        ValueError: If there is not one entry for each stage, an entry leaves
            out or repeats a task, or tasks that have parted meet again.

    Example:

    >>> model = keras_mtl.branched_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, name="low"), keras.layers.Dense(8, name="high")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1), "c": keras.layers.Dense(1)},
    ...     branches=[[["a", "b", "c"]], [["a", "b"], ["c"]]],
    ... )
    >>> [variable.path for variable in model.shared_variables if "kernel" in variable.path]
    ['shared/low/kernel', 'shared/a_and_b/high/kernel']

    Reference:

    - S. Vandenhende et al., "Branched Multi-Task Networks: Deciding What Layers To Share", BMVC 2020 (trees of this
      kind; how to find one is not part of the builder).
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    tasks = tuple(heads)
    tree = _check_branches(branches, tasks, len(stacks))
    parted = [[] if len(groups) == 1 < len(tasks) else stack for stack, groups in zip(stacks, tree, strict=True)]
    copy_weights = check_copy_weights(copy_weights, parted)
    tensors = dict.fromkeys(tasks, inputs)
    for index, (stack, groups) in enumerate(zip(stacks, tree, strict=True)):
        for group in groups:
            tensor = tensors[group[0]]
            if len(group) == len(tasks) > 1:
                tensor = add_shared([stack], tensor, first_index=index)
            else:
                scope = group[0] if len(group) == 1 else f"shared/{'_and_'.join(group)}"
                tensor = add_column([stack], tensor, scope, copy_weights, index)
            tensors.update(dict.fromkeys(group, tensor))
    outputs = add_heads(heads, tensors, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)


def _check_branches(
    branches: Sequence[Sequence[Sequence[str]]], tasks: tuple[str, ...], count: int
) -> list[list[list[str]]]:
    if not isinstance(branches, (list, tuple)) or len(branches) != count:
        raise ValueError(
            f"`branches` should be a list with one entry for each of the {count} stages. "
            f"Received: branches={branches!r}"
        )
    tree, before = [], dict.fromkeys(tasks, 0)
    for index, groups in enumerate(branches):
        groups = _check_groups(groups, tasks, f"`branches[{index}]`")
        for group in groups:
            if len({before[task] for task in group}) > 1:
                raise ValueError(
                    f"Tasks that have parted should not share a later stage. Received: `branches[{index}]` has group "
                    f"{group}, which `branches[{index - 1}]` splits: {tree[-1]}"
                )
        before = {task: place for place, group in enumerate(groups) for task in group}
        tree.append(groups)
    return tree


def _check_groups(groups: Sequence[Sequence[str]], tasks: tuple[str, ...], what: str) -> list[list[str]]:
    lists = isinstance(groups, (list, tuple)) and all(isinstance(group, (list, tuple)) and group for group in groups)
    named = [task for group in groups for task in group] if lists else []
    if sorted(map(str, named)) != sorted(tasks):
        raise ValueError(
            f"{what} should be a list of groups, lists of tasks, that hold every task of {list(tasks)} once. "
            f"Received: {groups!r}"
        )
    # In the tasks' order, so that names do not depend on how the groups were written.
    return sorted((sorted(group, key=tasks.index) for group in groups), key=lambda group: tasks.index(group[0]))
