"""A tree of branches, grown from the top by the examples that tasks find difficult."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import layers

from keras_mtl._checks import check_number
from keras_mtl._types import Heads, Inputs, Stages, Structure, Tasks
from keras_mtl.layers.stage import name_scope
from keras_mtl.learned._difficulty import best_split, branch_affinity, difficulty_affinity, sample_errors
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import built_copy, check_copy_weights, copy_layer, keep_state
from keras_mtl.models._stages import copy_name
from keras_mtl.models.branched_sharing import branched_sharing
from keras_mtl.models.plot_sharing import plot_sharing

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def branch_by_affinity(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    train: Callable[[MultiTaskModel], Any],
    validation_data: tuple[Any, Any],
    branch_cost: float = 0.05,
    separation_weight: float = 0.5,
    errors: Callable[..., Any] = sample_errors,
    copy_weights: bool | None = None,
    picture: str | None = None,
    name: str | None = None,
) -> tuple[MultiTaskModel, list[list[list[str]]]]:
    """Trains one shared trunk and widens it from the top where tasks differ.

    At first all tasks share all stages. Then, stage by stage from the last to
    the first, the branches that meet there are put into d groups by spectral
    clustering of their affinity, where d costs least:

    `L(d) = (d - 1) branch_cost 2^p + separation_weight L_s(d)`

    with p the number of pooling layers above the stage and L_s the mean over
    branches of 1 minus their least affinity within their group. The affinity
    of two tasks is the share of validation examples that both or neither find
    difficult. Each group gets the stage's weights, so that the outputs do not
    change, and the model is trained again. It ends where d is 1.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers): a thin trunk, such
            as `thin_stages` makes from a wide one.
        heads: Dict from task name to a Keras layer or a list of layers.
        train: Function that compiles a model and fits it for a while. It is
            called with the model at first and after each split.
        validation_data: Tuple `(x, y)` of arrays by which difficulty is told.
        branch_cost: Float. What a branch more costs. Defaults to 0.05.
        separation_weight: Float. What tasks that differ cost in one branch.
            Defaults to 0.5.
        errors: Function `(model, x, y)` to a dict from task to an array with
            an error for each example. Defaults to
            `keras_mtl.learned._difficulty.sample_errors`.
        copy_weights: `None` or boolean. Whether the trunk starts from the given
            stages' weights, which have to be built. Defaults to `None`: every
            copy starts anew, and weights that would be lost are refused (see
            the guide, "What copies keep").
        picture: String. Path of a picture of the tree (see `plot_sharing`).
            Defaults to `None`: none is drawn.
        name: String. Name of the model.

    Returns:
        Tuple of the trained `keras_mtl.MultiTaskModel`, one of
        `branched_sharing`, and its tree, as that builder takes it.

    Raises:
        ValueError: If `train` cannot be called, `validation_data` is not a
            tuple with labels of every task, a price is negative, two tasks have
            no labelled validation example in common, or stages, heads or inputs
            are not what builders take.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(64, 4)).astype("float32")
    >>> y = {"a": x[:, :1] ** 2, "b": x[:, :1] ** 2, "c": x[:, 1:2] ** 2}
    >>> def train(model):
    ...     model.compile("sgd", loss={task: "mse" for task in y})
    ...     model.fit(x, y, epochs=1, verbose=0)
    >>> stages = [keras.layers.Dense(8, activation="tanh", name=name) for name in ("low", "high")]
    >>> model, tree = keras_mtl.learned.branch_by_affinity(
    ...     keras.Input((4,)),
    ...     stages,
    ...     {task: keras.layers.Dense(1) for task in y},
    ...     train=train,
    ...     validation_data=(x, y),
    ... )
    >>> len(tree), sorted(task for group in tree[-1] for task in group)
    (2, ['a', 'b', 'c'])

    Reference:

    - Y. Lu et al., "Fully-adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute
      Classification", CVPR 2017.

    Deviations: L_s is a mean over branches, not over groups, since groups of
    one branch agree with themselves. An example is difficult where its
    error is at least the task's mean.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    tasks = list(heads)
    _check(train, validation_data, errors)
    check_number(branch_cost, "branch_cost", least=0)
    check_number(separation_weight, "separation_weight", least=0)
    if errors is sample_errors:
        _check_labels(validation_data[1], tasks)
    copy_weights = check_copy_weights(copy_weights, stacks)
    tree = [[tasks] for _ in stacks]
    with name_scope("shared"):
        given = [[built_copy(layer, copy_layer(layer, "shared"), copy_weights) for layer in stack] for stack in stacks]
    model = branched_sharing(inputs, given, heads, branches=tree, copy_weights=copy_weights, name=name)
    train(model)
    branches = [[i] for i in range(len(tasks))]
    for index in range(len(stacks) - 1, -1, -1):
        found = errors(model, *validation_data)
        affinity = difficulty_affinity({task: found[task] for task in tasks})
        cost = branch_cost * 2 ** _poolings(stacks[index + 1 :])
        split = best_split(branch_affinity(affinity, branches), cost, separation_weight)
        branches = [sorted(t for branch in group for t in branches[branch]) for group in split]
        if len(branches) == 1:
            break
        tree[index] = [[tasks[i] for i in group] for group in branches]
        model = _widened(model, stacks, heads, tree, name)
        train(model)
    if picture is not None:
        plot_sharing(model, picture)
    return model, tree


def _check(
    train: Callable[[MultiTaskModel], Any], validation_data: tuple[Any, Any], errors: Callable[..., Any]
) -> None:
    """Raises, before anything is trained, where the end of the first training would."""
    if not callable(train):
        raise ValueError(f"`train` should be a function that takes a model and fits it. Received: train={train!r}")
    if not isinstance(validation_data, tuple) or len(validation_data) != 2:
        kind = type(validation_data).__name__
        raise ValueError(f"`validation_data` should be a tuple (x, y). Received: a {kind}")
    if not callable(errors):
        raise ValueError(f"`errors` should be a function of a model and `validation_data`. Received: errors={errors!r}")


def _check_labels(labels: Structure, tasks: Tasks) -> None:
    if not isinstance(labels, dict) or any(task not in labels for task in tasks):
        found = f"labels of {list(labels)}" if isinstance(labels, dict) else f"a {type(labels).__name__}"
        raise ValueError(
            f"The labels of `validation_data` should be a dict with every task of {tasks}. Received: {found}"
        )
    for task in tasks:
        if not len(labels[task]):
            raise ValueError(f"`validation_data` should have examples. Received: no label of task '{task}'")


def _widened(
    model: MultiTaskModel,
    stacks: Sequence[Sequence[keras.Layer]],
    heads: Heads,
    tree: Sequence[Sequence[Sequence[str]]],
    name: str | None,
) -> MultiTaskModel:
    """The model of a tree with the weights of one whose groups its own are part of."""
    inputs = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name), model.input)
    fresh = [[copy_layer(layer, tag="shared") for layer in stack] for stack in stacks]
    new_heads = {task: [copy_layer(layer, tag=task) for layer in stack] for task, stack in heads.items()}
    wider = branched_sharing(inputs, fresh, new_heads, branches=tree, name=name)
    for index, groups in enumerate(tree):
        for group in groups:
            source = next(s for s in _candidates(model, stacks[index], group, index))
            target = wider.get_layer(copy_name(stacks[index], _scope(group, heads), index))
            keep_state(source.stack, target.stack, weights=True)
    for task in heads:
        keep_state(model.get_layer(task).stack, wider.get_layer(task).stack, weights=True)
    return wider


def _candidates(
    model: MultiTaskModel, stack: Sequence[keras.Layer], group: Sequence[str], index: int
) -> Iterator[keras.Layer]:
    """Stages of a model at one place that serve all tasks of a group."""
    for layer in model.layers:
        scope = getattr(layer, "scope", None)
        at_place = scope is not None and layer.name == copy_name(stack, scope, index)
        if at_place and set(group) <= set(model.sharing.tasks_of(layer)):
            yield layer


def _scope(group: Sequence[str], heads: Heads) -> str:
    if len(group) == len(heads) > 1:
        return "shared"
    return group[0] if len(group) == 1 else f"shared/{'_and_'.join(group)}"


def _poolings(stacks: Sequence[Sequence[keras.Layer]]) -> int:
    kinds = (layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D)
    return int(np.sum([isinstance(layer, kinds) for stack in stacks for layer in stack]))
