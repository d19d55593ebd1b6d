"""Task gradients on TensorFlow: where they are taken and how they are combined."""

import contextlib
import math

import keras
import tensorflow as tf

from keras_mtl.layers.stage import layers_called_by
from keras_mtl.training.tensorflow import dense_gradients, max_pooling, sparse_gradients
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
            float64 tensor of shape `(K, K)`. Accurate to float32, for gradients of
            any size: their squares neither overflow nor vanish.
        """
        units = tf.reduce_max(tf.stack([rows.magnitudes() for rows in self.of_targets]), axis=0)
        units = tf.where(units > 0, units, tf.ones_like(units))
        products = tf.add_n([rows.gramian(units) for rows in self.of_targets])
        units = tf.cast(units, tf.float64)
        return tf.cast(products, tf.float64) * units[:, None] * units[None, :]

    def jacobian(self):
        """The task gradients in one matrix.

        Returns:
            Tensor of shape `(K, P)`, P being the size of all targets.
        """
        return tf.concat([rows.matrix() for rows in self.of_targets], axis=1)

    def combine(self, weights):
        """Weighted sums of the task gradients.

        Args:
            weights: Float tensor of shape `(K,)`.

        Returns:
            List of tensors in the shapes of the targets.
        """
        return [rows.combine(weights) for rows in self.of_targets]

    def split(self, direction):
        """Cuts a direction of shape `(P,)` into the shapes of the targets."""
        targets = [rows.target for rows in self.of_targets]
        parts = tf.split(direction, [math.prod(target.shape) for target in targets])
        return [tf.reshape(part, target.shape) for part, target in zip(parts, targets, strict=True)]


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
            tape.gradient(value, [*targets, *self.own[task]]) for task, value in zip(self.tasks, values, strict=True)
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


class FeatureGradients(ParameterGradients):
    """Task gradients of the shared features: one backward pass of the trunk.

    The Gramian is that of `dL_k/dz`, batch included, `z` being the tensors
    where data goes from shared layers to the tasks' own.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        super().__init__(model)
        self.upper_tape = tf.GradientTape(persistent=True)
        # The heads start from the features alone, so that a feature's gradient
        # leaves out what goes through later features.
        self.trunk, self.heads = model.sharing.halves(self.tasks)

    @contextlib.contextmanager
    def recording(self, x):
        # Eager steps may have arrays, which the heads do not take beside tensors.
        x = keras.tree.map_structure(tf.convert_to_tensor, x)
        with self.tape:
            with layers_called_by(max_pooling.call_layer):  # of the trunk alone: nothing looks behind a feature
                self.features = keras.tree.flatten(self.trunk(x, training=True))
            with self.upper_tape:
                for feature in self.features:
                    self.upper_tape.watch(feature)
                yield self.heads((tuple(self.features), x), training=True)

    def collect(self, values, choose=None):
        return self._collect(self.upper_tape, values, self.features, choose)

    def gramian(self):
        # Replicas hold different examples of the features: their products add up.
        (gramian,) = all_reduce([self.gradients.gramian()])
        return gramian

    def shared_gradients(self, weights):
        return dict(zip(map(key, self.shared), self._through_trunk(self.shared, weights), strict=True))

    def by_example(self):
        """The task gradients of all features of each example.

        Returns:
            float32 tensor of shape `(K, B, D)`.
        """
        size = tf.shape(self.features[0])[0]
        parts = [
            tf.reshape(tf.cast(rows.matrix(), tf.float32), [len(self.tasks), size, math.prod(feature.shape[1:])])
            for rows, feature in zip(self.gradients.of_targets, self.features, strict=True)
        ]
        return tf.concat(parts, axis=2)

    def gradients_from(self, gradient):
        """Gradients of the shared variables from one of the features, of shape `(B, D)`."""
        parts = tf.split(gradient, [math.prod(feature.shape[1:]) for feature in self.features], axis=1)
        parts = [tf.reshape(tf.cast(p, f.dtype), tf.shape(f)) for p, f in zip(parts, self.features, strict=True)]
        found = self.tape.gradient(self.features, self.shared, output_gradients=parts)
        return dict(zip(map(key, self.shared), found, strict=True))

    def _through_trunk(self, variables, weights):
        combined = self.gradients.combine(weights)
        return self.tape.gradient(self.features, variables, output_gradients=combined)


class LastSharedGradients(FeatureGradients):
    """Task gradients of the last shared layers' variables.

    Only the weights come from these; the gradients of the whole trunk follow
    in one backward pass.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def gramian(self):
        layers = self.model.sharing.last_shared_layers(self.tasks)
        last = [variable for layer in layers for variable in layer.trainable_variables]
        alone = tf.unstack(tf.eye(len(self.tasks)))
        return TaskGradients([self._through_trunk(last, one) for one in alone], last).reduced().gramian()


PLACES = {
    "parameters": ParameterGradients,
    "last_shared": LastSharedGradients,
    "features": FeatureGradients,
}
