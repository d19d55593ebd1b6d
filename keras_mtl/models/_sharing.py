"""Which layers serve which tasks, read from the model's graph."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._keras_private import calls_of, layers_directly_within, maker_of
from keras_mtl._types import Inputs, Tasks

if TYPE_CHECKING:
    from keras_mtl._keras_private import Maker


class Sharing:
    """Which layers of a functional model serve which tasks.

    A layer serves the tasks whose losses train it, or a layer within it: those
    whose gradients come back to it. What is shared is counted by variable,
    through nested models and layers: a layer that the heads of two tasks hold
    serves both. Behind a `keras.ops.stop_gradient` there may be further tasks
    whose outputs are computed with it; `feeds` has them too.

    Args:
        model: Functional model with a dict of outputs.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.tasks = tuple(model.output)
        self._calls, self._reach, self._fed = {}, {}, {}
        for task, output in model.output.items():
            for call, operation in _calls_behind(output, stops=True).items():
                self._calls.setdefault(call, set()).add(task)
                self._reach.setdefault(id(operation), set()).add(task)
            for operation in _calls_behind(output, stops=False).values():
                self._fed.setdefault(id(operation), set()).add(task)

    def tasks_of(self, layer: keras.Layer) -> tuple[str, ...]:
        """Tasks that a layer serves, in the model's order."""
        return self._in_order(layer, self._reach)

    def feeds(self, layer: keras.Layer) -> tuple[str, ...]:
        """Tasks whose outputs are computed with a layer, in the model's order."""
        return self._in_order(layer, self._fed)

    def _in_order(self, layer: keras.Layer, by_operation: Mapping[int, set[str]]) -> tuple[str, ...]:
        tasks = set(by_operation.get(id(layer), ()))
        if variables := getattr(layer, "variables", ()):
            by_variable = self._by_variable(by_operation)
            tasks.update(*(by_variable.get(id(v), ()) for v in variables))
        return tuple(task for task in self.tasks if task in tasks)

    def _by_variable(self, by_operation: Mapping[int, set[str]]) -> dict[int, set[str]]:
        """Dict from a variable's id to the tasks of all layers that hold it."""
        found = {}
        for layer in self._model.layers:
            for variable in layer.variables:
                found.setdefault(id(variable), set()).update(by_operation.get(id(layer), ()))
        return found

    def is_shared(self, layer: keras.Layer) -> bool:
        """Whether a layer serves two tasks or more."""
        return len(self.tasks_of(layer)) > 1

    @property
    def layers(self) -> list[keras.Layer]:
        """Layers with variables, in the model's order; of one that tasks share in part, those within it."""
        by_variable, found, counted = self._by_variable(self._reach), [], set()

        def visit(layer: keras.Layer) -> None:
            variables = [id(v) for v in layer.variables]
            if counted.issuperset(variables):
                return
            if any(by_variable[v] != by_variable[variables[0]] for v in variables):
                for inner in layers_directly_within(layer):
                    visit(inner)
            if not counted.issuperset(variables):
                found.append(layer)
                counted.update(variables)

        for layer in self._model.layers:
            visit(layer)
        return found

    def weights_of(self, task: str | None = None) -> list[keras.Variable]:
        """Variables by which a task's output is computed, or that two tasks or more train.

        Args:
            task: String. Name of the task. Defaults to `None`: the shared ones.

        Returns:
            List of `keras.Variable`, trainable or not.
        """
        tasks = self._by_variable(self._reach if task is None else self._fed)

        def counts(variable: keras.Variable) -> bool:
            of_variable = tasks.get(id(variable), ())
            return len(of_variable) > 1 if task is None else task in of_variable

        return [variable for variable in self._model.weights if counts(variable)]

    def shared_variables(self, tasks: Tasks | None = None) -> list[keras.Variable]:
        """Trainable variables that serve two tasks or more.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            List of `keras.Variable`.
        """
        return self._variables(lambda served: len(served) > 1, tasks)

    def task_variables(self, task: str, tasks: Tasks | None = None) -> list[keras.Variable]:
        """Trainable variables that serve one task alone."""
        return self._variables(lambda served: served == {task}, tasks)

    def serves(self, variable: keras.Variable, tasks: Tasks) -> bool:
        """Whether a variable lies on the way to one of the given tasks."""
        return any(variable is v for v in self._variables(lambda served: bool(served), tasks))

    def _variables(self, condition: Callable[[set[str]], bool], tasks: Tasks | None) -> list[keras.Variable]:
        counted, by_variable = set(self.tasks if tasks is None else tasks), self._by_variable(self._reach)
        return list(
            {
                id(v): v
                for layer in self._model.layers
                for v in layer.trainable_variables
                if condition(counted & by_variable[id(v)])
            }.values()
        )

    def features(self, tasks: Tasks | None = None) -> list[keras.KerasTensor]:
        """Keras tensors where data goes from shared layers to the tasks' own.

        A layer that is called several times gives one for each call.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            List of Keras tensors, in the order of the layers that make them.

        Raises:
            ValueError: If there is no such place, or the gradients of shared
                variables do not all come by way of such places.
        """
        counted = set(self.tasks if tasks is None else tasks)

        def shared(operation: keras.Layer) -> bool:
            return len(counted & self._reach.get(id(operation), set())) > 1

        self._check_called_in_common(shared, counted)
        self._check_no_own_below(shared)
        self._check_no_own_holds(shared, counted)
        made_by_shared = {}
        wanted = [self._model.output[task] for task in self.tasks if task in counted]
        for layer, node, tasks_of_call in self._calls_in_order():
            # A layer without variables, or a frozen one, may be called by each task on data of its own.
            if len(counted & tasks_of_call) > 1:
                if not isinstance(layer, keras.layers.InputLayer):
                    made_by_shared.update({id(x): x for x in node.output_tensors})
            elif counted & tasks_of_call:
                wanted.extend(node.input_tensors)
        used = {id(x) for x in wanted}
        features = [x for key, x in made_by_shared.items() if key in used]
        if not features:
            raise ValueError(
                f"Model '{self._model.name}' has no layer that two tasks share, so there are no shared features."
            )
        self._check_of_examples(features)
        return features

    def are_nested(self, features: Sequence[keras.KerasTensor]) -> bool:
        """Whether one of some features is computed with another.

        Args:
            features: List of Keras tensors.
        """
        made_by = [_key(maker_of(x)) for x in features]
        return any(
            maker != own and maker in behind
            for own, behind in zip(made_by, [_calls_behind(x, stops=True) for x in features], strict=True)
            for maker in made_by
        )

    def _calls_in_order(self) -> list[tuple[keras.Operation, Any, set[str]]]:
        """Operation, node and tasks of each call that gradients come back to, in the model's order."""
        return [
            (operation, node, self._calls[id(operation), index])
            for operation in self._model.operations
            for index, node in enumerate(calls_of(operation))
            if (id(operation), index) in self._calls
        ]

    def has_features(self, tasks: Tasks | None = None) -> bool:
        """Whether there is a place where data goes from shared layers to the tasks' own."""
        try:
            self.features(tasks)
        except ValueError:
            return False
        return True

    def _check_of_examples(self, features: Sequence[keras.KerasTensor]) -> None:
        """Raises where a feature is the same for all examples, such as the change of a kernel."""
        rows = keras.tree.flatten(self._model.input)[0].shape[0]
        for x in features:
            if rows is None and x.shape[:1] != (None,):
                raise ValueError(
                    "The shared features should be of examples. Received: a tensor of shape "
                    f"{tuple(x.shape)} of layer '{maker_of(x).operation.name}', which is the same for all examples."
                )

    def _check_called_in_common(self, shared: Callable[[keras.Layer], bool], counted: set[str]) -> None:
        """Raises where two tasks share a layer, but each calls it on data of its own."""
        by_layer = {}
        for layer, _, tasks in self._calls_in_order():
            if shared(layer) and getattr(layer, "trainable_variables", None):
                by_layer.setdefault(id(layer), (layer, []))[1].append(counted & tasks)
        for layer, calls in by_layer.values():
            for a, b in itertools.combinations([t for t in self.tasks if any(t in call for call in calls)], 2):
                if not any({a, b} <= call for call in calls):
                    raise ValueError(
                        "The shared features should be of data that tasks have in common. Received: layer "
                        f"'{layer.name}', which tasks call on inputs of their own: '{a}' and '{b}'."
                    )

    def _check_no_own_below(self, shared: Callable[[keras.Layer], bool]) -> None:
        """Raises where data goes from a task's own variables into shared ones."""
        for layer, node, _ in self._calls_in_order():
            if not (shared(layer) and getattr(layer, "trainable_variables", None)):
                continue
            behind = _calls_behind(node.input_tensors, stops=True).values()
            own = {o.name: o for o in behind if getattr(o, "trainable_variables", None) and not shared(o)}
            if own:
                raise ValueError(
                    "The shared features should come before what tasks have of their own. Received: layer "
                    f"'{layer.name}', which is shared, behind {list(own)} of single tasks."
                )

    def _check_no_own_holds(self, shared: Callable[[keras.Layer], bool], counted: set[str]) -> None:
        """Raises where a layer that a task has for itself holds a variable that others train too."""
        by_variable = self._by_variable(self._reach)
        for layer in self._model.layers:
            if self._reach.get(id(layer), set()) & counted and not shared(layer):
                held = [v.path for v in layer.trainable_variables if len(counted & by_variable[id(v)]) > 1]
                if held:
                    raise ValueError(
                        "The shared variables should belong to layers before the shared features. Received: layer "
                        f"'{layer.name}' of one task, which holds {held}, shared with others."
                    )

    def halves(self, tasks: Tasks | None = None) -> tuple[keras.Model, keras.Model]:
        """The model in two halves: inputs to features, and those to outputs.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            Tuple of two functional models. The first returns a tuple of
            features; the second takes the pair `(features, inputs)`.
        """
        features = tuple(self.features(tasks))
        # A task's output that feeds another task is a feature too. A copy parts its two roles: Keras cannot have one
        # tensor at both ends of a model.
        ends = {id(x) for x in self._model.output.values()} & {id(x) for x in features}
        outputs = {t: keras.ops.copy(x) if id(x) in ends else x for t, x in self._model.output.items()}
        trunk = keras.Model(self._model.input, features)
        # A function leaves the graph that it is a part of as it is. A model that starts in the middle would give new
        # nodes to inputs that go around the features, into gates, and the whole model could not be saved after that.
        behind = keras.Function((features, self._model.input), outputs)
        starts = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, sparse=x.sparse), (features, self._model.input)
        )
        return trunk, keras.Model(starts, behind(starts))

    def inputs_of(self, task: str) -> Inputs:
        """The model's inputs that a task's output needs, in their structure.

        Args:
            task: String. Name of the task.

        Returns:
            A Keras tensor, or a list or dict of them.
        """
        inputs = self._model.input
        if isinstance(inputs, dict):
            return {k: v for k, v in inputs.items() if self._needs(task, v)}
        if isinstance(inputs, (list, tuple)):
            return [x for x in inputs if self._needs(task, x)]
        return inputs

    def _needs(self, task: str, tensor: keras.KerasTensor) -> bool:
        return task in self.feeds(maker_of(tensor).operation)

    def last_shared_layers(self, tasks: Tasks | None = None) -> list[keras.Layer]:
        """The last layers with trainable variables that make shared features.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            List of layers.
        """
        ends = []
        for feature in self.features(tasks):
            behind = keras.Model(self._model.input, feature).layers
            trainable = [layer for layer in behind if layer.trainable_variables]
            if trainable and trainable[-1] not in ends:
                ends.append(trainable[-1])
        return ends


@functools.cache
def _stop_gradient() -> type[keras.Operation]:
    """The class of the operation behind `keras.ops.stop_gradient`."""
    return type(maker_of(keras.ops.stop_gradient(keras.KerasTensor((1,)))).operation)


def _calls_behind(tensor: Inputs, stops: bool) -> dict[tuple[int, int], keras.Layer]:
    """The calls that a Keras tensor is computed with.

    Args:
        tensor: Keras tensor, or a structure of them.
        stops: Boolean. Whether to leave out what gradients do not come back to.

    Returns:
        Dict from `(id of the operation, number of the call)` to the layer or
        other operation.
    """
    found, waiting = {}, keras.tree.flatten(tensor)
    while waiting:
        maker = maker_of(waiting.pop())
        if _key(maker) not in found:
            found[_key(maker)] = maker.operation
            if not stops or not isinstance(maker.operation, _stop_gradient()):
                waiting.extend(calls_of(maker.operation)[maker.index].input_tensors)
    return found


def _key(maker: Maker) -> tuple[int, int]:
    return id(maker.operation), maker.index


def count_parameters(variables: Sequence[keras.Variable]) -> int:
    """Number of scalars in a list of variables."""
    return sum(int(keras.ops.size(v)) for v in variables)
