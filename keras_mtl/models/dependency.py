"""Heads that depend on other tasks: what feeds what, in which order, and whether gradients go back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
from keras import ops

from keras_mtl._checks import as_list, check_boolean
from keras_mtl._types import DependsOn, Heads, Tasks
from keras_mtl.layers import Join, Stage
from keras_mtl.models._arguments import as_stack
from keras_mtl.models._copies import copy_stack, keep_state
from keras_mtl.models._stages import add_head, add_unit, call_stage


@dataclasses.dataclass(frozen=True)
class Dependency:
    """What a task's head takes from another task, beside its own features.

    Builders take it in `depends_on={task: Dependency(other)}`, or a list of
    them for a task; the name of the other task alone stands for
    `Dependency(other)`. The head takes it beside its own features.

    Args:
        task: String. The other task.
        take: `"output"`, what its head returns, or `"features"`, what the last
            layer of its head takes. Defaults to `"output"`.
        stop_gradient: Boolean. Whether the dependent task's loss leaves the
            other task's head alone. Otherwise it trains it too, and its
            variables are shared. Defaults to `False`.
        through: `None`, a Keras layer or a list of layers that the other
            task's tensor passes first, such as `Dense(8)`, which makes an
            embedding of its label, or a pooling layer. Fresh copies of them
            belong to the dependent task. Defaults to `None`.

    Example:

    >>> dependency = keras_mtl.Dependency("clicked", stop_gradient=True)
    >>> model = keras_mtl.hard_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={
    ...         "clicked": keras.layers.Dense(1, activation="sigmoid"),
    ...         "seconds": [keras.layers.Dense(8, activation="relu", name="hidden"), keras.layers.Dense(1, name="out")],
    ...     },
    ...     depends_on={"seconds": dependency},
    ... )
    >>> {v.path: tuple(v.shape) for v in model.task_variables("seconds")}["seconds/hidden/kernel"]
    (17, 8)
    """

    task: str
    take: str = "output"
    stop_gradient: bool = False
    through: object = None

    def __post_init__(self) -> None:
        if self.take not in ("output", "features"):
            raise ValueError(f"`take` should be 'output' or 'features'. Received: take={self.take!r}")
        check_boolean(self.stop_gradient, "stop_gradient")


def add_heads(
    heads: Heads, features: Mapping[str, keras.KerasTensor], depends_on: DependsOn | None = None
) -> dict[str, keras.KerasTensor]:
    """Calls the tasks' heads, each after those that it depends on.

    Args:
        heads: Dict from task to stack.
        features: Dict from task to what its head takes.
        depends_on: `None` or a dict from task to a task, a `Dependency` or a
            list of them.

    Returns:
        Dict from task to output, in the order of `heads`.
    """
    dependencies = check_dependencies(depends_on, tuple(heads))
    read = {source.task for sources in dependencies.values() for source in sources if source.take == "features"}
    outputs, taken = {}, {}
    for task in _in_order(dependencies, tuple(heads)):
        tensor, stack = features[task], heads[task]
        if sources := dependencies.get(task):
            tensor = _join(tensor, sources, outputs, taken, task)
        if task in read and len(stack) > 1:
            below = Stage(stack[:-1], scope=task, name=f"{task}_features")
            tensor, stack = call_stage(below, tensor, f"The head of task '{task}'"), stack[-1:]
        taken[task] = tensor
        outputs[task] = add_head(stack, tensor, task)
    return {task: outputs[task] for task in heads}


def check_dependencies(depends_on: DependsOn | None, tasks: Sequence[str]) -> dict[str, list[Dependency]]:
    """Normalizes `depends_on` to a dict from task to a list of `Dependency`.

    Args:
        depends_on: What a builder was given.
        tasks: Tuple of the tasks.

    Returns:
        Dict; tasks without dependencies are left out.
    """
    if depends_on is None:
        return {}
    if not isinstance(depends_on, dict):
        raise ValueError(
            f"`depends_on` should be a dict from task to the task it depends on. Received: depends_on={depends_on!r}"
        )
    found = {}
    for task, given in depends_on.items():
        if task not in tasks:
            raise ValueError(f"The keys of `depends_on` should be tasks: {list(tasks)}. Received: {task!r}")
        given = as_list(given)
        found[task] = [Dependency(one) if isinstance(one, str) else one for one in given]
        names = [getattr(one, "task", None) for one in found[task]]
        if not all(isinstance(one, Dependency) for one in found[task]) or not set(names) <= {*tasks} - {task}:
            raise ValueError(
                f"`depends_on` of task '{task}' should name other tasks of {list(tasks)} or be `keras_mtl.Dependency` "
                f"on them. Received: {given}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"`depends_on` of task '{task}' should name each task once. Received: {names}")
    _in_order(found, tasks)
    return {task: sources for task, sources in found.items() if sources}


def _in_order(dependencies: Mapping[str, Sequence[Dependency]], tasks: Tasks) -> list[str]:
    """The tasks, each after those that it depends on."""
    order = []

    def visit(task: str, path: Sequence[str]) -> None:
        if task in path:
            circle = " -> ".join([*path[path.index(task) :], task])
            raise ValueError(f"`depends_on` should have no circle. Received: {circle}")
        if task not in order:
            for source in dependencies.get(task, ()):
                visit(source.task, [*path, task])
            order.append(task)

    for task in tasks:
        visit(task, [])
    return order


def _join(
    tensor: keras.KerasTensor,
    sources: Sequence[Dependency],
    outputs: Mapping[str, keras.KerasTensor],
    taken: Mapping[str, keras.KerasTensor],
    task: str,
) -> keras.KerasTensor:
    """The task's own features with what it takes from others."""
    if not isinstance(tensor, keras.KerasTensor):
        raise ValueError(
            f"The head of task '{task}' should take one tensor, since `depends_on` puts others beside it. "
            f"Received: {keras.tree.map_structure(lambda x: tuple(x.shape), tensor)}"
        )
    beside = []
    for source in sources:
        given = (outputs if source.take == "output" else taken)[source.task]
        if given is tensor:
            raise ValueError(
                f"`depends_on` of task '{task}' should take from task '{source.task}' what the task does not have. "
                f"Received: take='features', but the head of '{source.task}' has one layer, which takes the very "
                "features that both tasks share. Give it a hidden layer, or take its output"
            )
        given = ops.stop_gradient(given) if source.stop_gradient else given
        if source.through is not None:
            scope = f"{task}/from_{source.task}"
            through = as_stack(source.through, f"`through` of task '{task}'")
            layers = copy_stack(through, scope, f"`through` of task '{task}'")
            given = add_unit(layers, given, scope)
            keep_state(through, layers)
        beside.append(given)
    shapes = [tuple(x.shape) for x in (tensor, *beside)]
    try:
        return add_unit(Join(name="join"), [tensor, *beside], f"{task}/join")
    except ValueError as error:
        raise ValueError(
            f"What task '{task}' takes from {[source.task for source in sources]} should fit its own features: have "
            "their shape but for the last axis, or be a vector for each example, as pooling in `through` makes it. "
            f"Received: shapes {shapes}"
        ) from error
