"""Who shares what: found from the model's graph, never declared by hand."""

import functools

import keras


class Sharing:
    """Which layers of a functional model serve which tasks.

    A layer serves the tasks whose losses train it: those whose gradients come
    back to it. Behind a `keras.ops.stop_gradient` there may be further tasks
    whose outputs are computed with it; `feeds` has them too.

    Args:
        model: Functional model with a dict of outputs.
    """

    def __init__(self, model):
        self._model = model
        self.tasks = tuple(model.output)
        self._reach, self._fed = {}, {}
        for task, output in model.output.items():
            for operation in _operations_behind(output, stops=True):
                self._reach.setdefault(id(operation), []).append(task)
            for operation in _operations_behind(output, stops=False):
                self._fed.setdefault(id(operation), []).append(task)

    def tasks_of(self, layer):
        """Tasks that a layer serves, in the model's order."""
        return tuple(self._reach.get(id(layer), ()))

    def feeds(self, layer):
        """Tasks whose outputs are computed with a layer, in the model's order."""
        return tuple(self._fed.get(id(layer), ()))

    def is_shared(self, layer):
        """Whether a layer serves two tasks or more."""
        return len(self.tasks_of(layer)) > 1

    @property
    def layers(self):
        """Layers with variables, in the model's order."""
        return [layer for layer in self._model.layers if layer.variables]

    def shared_variables(self, tasks=None):
        """Trainable variables that serve two tasks or more.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            List of `keras.Variable`.
        """
        return self._variables(lambda served: len(served) > 1, tasks)

    def task_variables(self, task, tasks=None):
        """Trainable variables that serve one task alone."""
        return self._variables(lambda served: served == {task}, tasks)

    def serves(self, variable, tasks):
        """Whether a variable lies on the way to one of the given tasks."""
        return any(variable is v for v in self._variables(lambda served: bool(served), tasks))

    def _variables(self, condition, tasks):
        counted = set(self.tasks if tasks is None else tasks)
        found = {}
        for layer in self._model.layers:
            if condition(counted & set(self.tasks_of(layer))):
                found.update({id(v): v for v in layer.trainable_variables})
        return list(found.values())

    def features(self, tasks=None):
        """Keras tensors where data goes from shared layers to the tasks' own.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            List of Keras tensors, in the order of the layers that make them.

        Raises:
            ValueError: If there is no such place.
        """
        counted = set(self.tasks if tasks is None else tasks)

        def shared(operation):
            return len(counted & set(self.tasks_of(operation))) > 1

        made_by_shared = {}
        self._check_called_in_common(shared, counted)
        self._check_no_own_below(shared)
        for layer in self._model.operations:
            if shared(layer) and not isinstance(layer, keras.layers.InputLayer):
                made_by_shared.update({id(x): x for x in keras.tree.flatten(layer.output)})
        wanted = [self._model.output[task] for task in self.tasks if task in counted]
        for layer in self._model.operations:
            if counted & set(self.tasks_of(layer)) and not shared(layer):
                wanted.extend(keras.tree.flatten(layer.input))
        used = {id(x) for x in wanted}
        features = [x for key, x in made_by_shared.items() if key in used]
        if not features:
            raise ValueError(
                f"Model '{self._model.name}' has no layer that two tasks share, so there are no shared features."
            )
        return features

    def has_features(self, tasks=None):
        """Whether there is a place where data goes from shared layers to the tasks' own."""
        try:
            self.features(tasks)
        except ValueError:
            return False
        return True

    def _check_called_in_common(self, shared, counted):
        """Raises where tasks share layers, but each calls them on data of its own."""
        served = {}
        for task in self.tasks:
            for call in _calls_behind(self._model.output[task], stops=True) if task in counted else ():
                served.setdefault(call, set()).add(task)
        for layer in self._model.operations:
            calls = [tasks for (operation, _), tasks in served.items() if operation == id(layer)]
            apart = shared(layer) and all(len(tasks) == 1 for tasks in calls)
            if apart and getattr(layer, "trainable_variables", None):
                raise ValueError(
                    f"The shared features should be of data that tasks have in common. Received: layer '{layer.name}', "
                    "which tasks call on inputs of their own."
                )

    def _check_no_own_below(self, shared):
        """Raises where data goes from a task's own variables into shared ones."""
        made = {id(x): o for o in self._model.operations for x in keras.tree.flatten(o.output)}
        for layer in self._model.operations:
            if not (shared(layer) and getattr(layer, "trainable_variables", None)):
                continue
            for node in layer._inbound_nodes:
                inputs = [x for x in node.input_tensors if id(x) in made]
                behind = [o for x in inputs for o in _operations_behind(x, stops=True)]
                own = [o.name for o in behind if getattr(o, "trainable_variables", None) and not shared(o)]
                if own:
                    raise ValueError(
                        "The shared features should come before what tasks have of their own. Received: layer "
                        f"'{layer.name}', which is shared, behind {own} of single tasks."
                    )

    def halves(self, tasks=None):
        """The model in two halves: inputs to features, and those to outputs.

        Args:
            tasks: Collection of tasks that count. Defaults to all.

        Returns:
            Tuple of two functional models. The first returns a tuple of
            features; the second takes the pair `(features, inputs)`.
        """
        features = tuple(self.features(tasks))
        # A task's output that feeds another task is a feature too. Copies part its two roles: Keras cannot have one
        # tensor at both ends of a model, and the loss should not go behind it, to the logits of a sigmoid.
        ends = {id(x) for x in self._model.output.values()} & {id(x) for x in features}
        outputs = {t: keras.ops.copy(x) if id(x) in ends else x for t, x in self._model.output.items()}
        trunk = keras.Model(self._model.input, tuple(keras.ops.copy(x) if id(x) in ends else x for x in features))
        # Inputs that go around the features (into gates) get a new node from Keras in a model that starts in the
        # middle, and the whole model could not be saved after that.
        inputs = keras.tree.flatten(self._model.input)
        histories = [x._keras_history for x in inputs]
        heads = keras.Model((features, self._model.input), outputs)
        for x, history in zip(inputs, histories, strict=True):
            x._keras_history = history
        return trunk, heads

    def inputs_of(self, task):
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

    def _needs(self, task, tensor):
        return task in self.feeds(tensor._keras_history.operation)

    def last_shared_layers(self, tasks=None):
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
def _stop_gradient():
    """The class of the operation behind `keras.ops.stop_gradient`."""
    return type(keras.ops.stop_gradient(keras.KerasTensor((1,)))._keras_history.operation)


def _operations_behind(tensor, stops):
    """Operations that a Keras tensor is computed with.

    Args:
        tensor: Keras tensor, or a structure of them.
        stops: Boolean. Whether to leave out what gradients do not come back to.

    Returns:
        List of layers and other operations.
    """
    return list({id(operation): operation for operation in _calls_behind(tensor, stops).values()}.values())


def _calls_behind(tensor, stops):
    """Same, call by call: dict from `(id of the operation, number of the call)` to the operation."""
    found, waiting = {}, keras.tree.flatten(tensor)
    while waiting:
        history = waiting.pop()._keras_history
        operation, call = history.operation, (id(history.operation), history.node_index)
        if call not in found:
            found[call] = operation
            if not stops or not isinstance(operation, _stop_gradient()):
                waiting.extend(operation._inbound_nodes[history.node_index].input_tensors)
    return found


def count_parameters(variables):
    """Number of scalars in a list of variables."""
    return sum(int(keras.ops.size(v)) for v in variables)
