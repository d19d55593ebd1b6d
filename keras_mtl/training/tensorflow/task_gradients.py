"""Task gradients on TensorFlow: where they are taken and how they are combined."""

import contextlib
import math

import tensorflow as tf

from keras_mtl.layers.stage import layers_called_by
from keras_mtl.training.tensorflow import dense_gradients, sparse_gradients
from keras_mtl.training.tensorflow.conv_rows import stack_convolutions
from keras_mtl.training.tensorflow.task_rows import Rows, task_rows


def replicas():
    """Number of replicas that train in sync."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce(tensors):
    """Sums a list of tensors over the replicas."""
    if replicas() == 1:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def key(variable):
    """What a variable is known by in dicts of gradients."""
    return id(variable)


class TaskGradients:
    """Gradients of K task losses with respect to the same variables or tensors.

    Args:
        rows: List of K lists of gradients, `None` where a task does not reach
            a target.
        targets: List of the variables or tensors.
    """

    def __init__(self, rows, targets):
        rows = stack_convolutions(rows)
        self.of_targets = [task_rows([row[i] for row in rows], target) for i, target in enumerate(targets)]

    def reduced(self):
        """Sums the gradients over the replicas. Returns itself."""
        if replicas() > 1:
            matrices = all_reduce([rows.matrix() for rows in self.of_targets])
            self.of_targets = [Rows(m, rows.target) for m, rows in zip(matrices, self.of_targets, strict=True)]
        return self

    def gramian(self):
        """Inner products of the task gradients.

        Returns:
            float64 tensor of shape `(K, K)`. Accurate to float32, or to float64
            where the targets are, for gradients of any size: their squares
            neither overflow nor vanish.
        """
        double = any(rows.target.dtype == "float64" for rows in self.of_targets)
        dtype = tf.float64 if double else tf.float32
        units = tf.reduce_max(tf.stack([tf.cast(rows.magnitudes(), dtype) for rows in self.of_targets]), axis=0)
        units = tf.where(units > 0, units, tf.ones_like(units))
        products = tf.add_n([tf.cast(rows.gramian(units), dtype) for rows in self.of_targets])
        units = tf.cast(units, tf.float64)
        return tf.cast(products, tf.float64) * units[:, None] * units[None, :]

    def jacobian(self):
        """The task gradients in one matrix.

        Returns:
            float32 tensor of shape `(K, P)`, P being the size of all targets.
        """
        return tf.concat([tf.cast(rows.matrix(), tf.float32) for rows in self.of_targets], axis=1)

    def combine(self, weights):
        """Weighted sums of the task gradients.

        Args:
            weights: Float tensor of shape `(K,)`.

        Returns:
            List of tensors in the shapes of the targets.
        """
        return [rows.combine(weights) for rows in self.of_targets]

    def split(self, direction):
        """Cuts a direction of shape `(P,)` into the shapes and dtypes of the targets."""
        targets = [rows.target for rows in self.of_targets]
        parts = tf.split(direction, [math.prod(target.shape) for target in targets])
        return [
            tf.cast(tf.reshape(part, target.shape), target.dtype) for part, target in zip(parts, targets, strict=True)
        ]


class ParameterGradients:
    """Task gradients of the shared parameters: K backward passes.

    The update uses the very same gradients, so there is no further pass.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        self.model = model
        self.tasks = model.compiled_tasks.tasks
        self.shared = model.sharing.shared_variables(self.tasks)
        self.own = {task: model.sharing.task_variables(task, self.tasks) for task in self.tasks}
        self.tape = tf.GradientTape(persistent=True)

    @contextlib.contextmanager
    def recording(self, x):
        """Runs the model forward and records what follows; gives `y_pred`."""
        with self.tape:
            with layers_called_by(dense_gradients.call_layer):
                y_pred = self.model(x, training=True)
            yield y_pred

    def collect(self, values, choose=None):
        """Takes the gradients of the task losses.

        Args:
            values: List of K scalars.
            choose: `None` or a function of the K lists of gradients that gives
                a boolean tensor of shape `(K,)`. The gradients of the other
                tasks become 0; `usable` is that tensor then.

        Returns:
            Dict of the gradients of the tasks' own variables.
        """
        own = self._collect(self.tape, values, self.shared, choose)
        self.gradients.reduced()
        return own

    def _collect(self, tape, values, targets, choose=None):
        found = [
            self._of_task(tape, task, value, [*targets, *self.own[task]])
            for task, value in zip(self.tasks, values, strict=True)
        ]
        if choose is not None:
            self.usable = choose(found)
            found = [
                [None if g is None else sparse_gradients.choose(self.usable[k], g) for g in of_task]
                for k, of_task in enumerate(found)
            ]
        own, rows = {}, []
        for task, of_task in zip(self.tasks, found, strict=True):
            rows.append(of_task[: len(targets)])
            own.update(zip(map(key, self.own[task]), of_task[len(targets) :], strict=True))
        self.gradients = TaskGradients(rows, targets)
        # Where no task's gradient arrives, there is none: not one of zeros.
        self.reached = [any(row[i] is not None for row in rows) for i in range(len(targets))]
        return own

    def _of_task(self, tape, task, value, sources):
        """Gradients of one task's loss. Raises where they arrive at a variable that is not known to serve the task."""
        strangers = self._strangers(task)
        found = tape.gradient(value, [*sources, *strangers])
        for variable, gradient in zip(strangers, found[len(sources) :], strict=True):
            if gradient is not None:
                raise ValueError(
                    "A trainable variable should belong to layers of the tasks that train it: a layer that uses "
                    "another's variable holds that layer as an attribute, and is called on something of the model's. "
                    f"Received: variable '{variable.path}', which the loss of task '{task}' reaches from elsewhere. "
                    "Weightings on task gradients and `on_nonfinite='skip_task'` need to know."
                )
        return found[: len(sources)]

    def _strangers(self, task):
        """Variables to which the tape should have no way from a task's loss."""
        return [v for other in self.tasks if other != task for v in self.own[other]]

    def gramian(self):
        """Inner products of the task gradients, over all replicas."""
        return self.gradients.gramian()

    def shared_gradients(self, weights):
        """Gradients of the shared variables, combined with the task weights."""
        return self._by_variable(self.gradients.combine(weights))

    def split(self, direction):
        """Gradients of the shared variables from a direction of shape `(P,)`."""
        return self._by_variable(self.gradients.split(direction))

    def _by_variable(self, gradients):
        if replicas() > 1:  # the optimizer sums over replicas what is a sum already
            gradients = [g / replicas() for g in gradients]
        by_variable = zip(self.shared, gradients, self.reached, strict=True)
        return {key(variable): gradient for variable, gradient, reached in by_variable if reached}

    def added(self, value):
        """Gradients of a further loss, such as regularization, by variable."""
        variables = self.model.trainable_variables
        found = zip(variables, self.tape.gradient(value, variables), strict=True)
        return {key(variable): gradient for variable, gradient in found if gradient is not None}


class OwnGradients(ParameterGradients):
    """The gradients of the tasks' own variables alone, where others give those of the shared ones.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def collect(self, values, choose=None):
        return self._collect(self.tape, values, [], choose)
