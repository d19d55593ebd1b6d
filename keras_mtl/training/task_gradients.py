"""Task gradients on TensorFlow: where they are taken and how they are combined.

Task gradients of a variable are kept as one matrix with a row for each task,
so that the Gramian and the weighted sum are matrix products.
"""

import contextlib

import keras
import tensorflow as tf


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


def stack_gradients(rows, targets):
    """Makes one matrix for each target of the tasks' gradients.

    Args:
        rows: List of K lists of gradients, `None` where a task does not reach
            a target.
        targets: List of the variables or tensors.

    Returns:
        List of tensors of shape `(K, n)`, n being the size of the target.
    """
    return [tf.stack([_flat(row[i], target) for row in rows]) for i, target in enumerate(targets)]


def _flat(gradient, target):
    if gradient is None:
        return tf.zeros([tf.size(target)], target.dtype)
    return tf.reshape(tf.convert_to_tensor(gradient), [-1])  # sparse gradients become dense


def gramian_of(matrices):
    """Inner products of the task gradients, summed over the matrices.

    Args:
        matrices: List of tensors of shape `(K, n_i)`.

    Returns:
        float32 tensor of shape `(K, K)`.
    """
    products = [tf.matmul(m, m, transpose_b=True) for m in (tf.cast(m, tf.float32) for m in matrices)]
    return tf.add_n(products)


def combine(matrices, weights, targets):
    """Weighted sums of the task gradients, in the shapes of the targets."""
    return [
        tf.reshape(tf.linalg.matvec(m, tf.cast(weights, m.dtype), transpose_a=True), tf.shape(target))
        for m, target in zip(matrices, targets, strict=True)
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
        self.upper = self.tape

    @contextlib.contextmanager
    def recording(self, x):
        """Runs the model forward and records what follows; gives `y_pred`."""
        with self.tape:
            yield self.model(x, training=True)

    def collect(self, values):
        """Takes the gradients of the task losses.

        Args:
            values: List of K scalars.

        Returns:
            Dict of the gradients of the tasks' own variables.
        """
        lower, own, rows = self._lower(), {}, []
        for task, value in zip(self.tasks, values, strict=True):
            found = self.upper.gradient(value, [*lower, *self.own[task]])
            rows.append(found[: len(lower)])
            own.update(zip(map(key, self.own[task]), found[len(lower) :], strict=True))
        self._keep(rows)
        return own

    def _lower(self):
        return self.shared

    def _keep(self, rows):
        self.matrices = all_reduce(stack_gradients(rows, self.shared))

    def jacobian(self):
        """The task gradients as one matrix of shape `(K, P)`."""
        return tf.concat(self.matrices, axis=1)

    def gramian(self):
        """Inner products of the task gradients, over all replicas."""
        return gramian_of(self.matrices)

    def shared_gradients(self, weights):
        """Gradients of the shared variables, combined with the task weights."""
        return self._by_variable(combine(self.matrices, weights, self.shared))

    def split(self, direction):
        """Gradients of the shared variables from a direction of shape `(P,)`."""
        parts = tf.split(direction, [m.shape[1] for m in self.matrices])
        return self._by_variable([tf.reshape(p, v.shape) for p, v in zip(parts, self.shared, strict=True)])

    def _by_variable(self, gradients):
        if replicas() > 1:  # the optimizer sums over replicas what is a sum already
            gradients = [g / replicas() for g in gradients]
        return dict(zip(map(key, self.shared), gradients, strict=True))

    def add(self, gradients, value):
        """Adds the gradients of a further loss, such as regularization."""
        variables = self.model.trainable_variables
        for variable, gradient in zip(variables, self.tape.gradient(value, variables), strict=True):
            if gradient is not None:
                before = gradients.get(key(variable))
                gradients[key(variable)] = gradient if before is None else before + gradient


class FeatureGradients(ParameterGradients):
    """Task gradients of the shared features: one backward pass of the trunk.

    The Gramian is that of `dL_k/dz`, batch included, `z` being the tensors
    where data goes from shared layers to the tasks' own.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        super().__init__(model)
        self.upper = tf.GradientTape(persistent=True)
        tensors = model.sharing.features(self.tasks)
        # The upper part starts from the features alone, so that a feature's
        # gradient leaves out what goes through later features.
        self.trunk = keras.Model(model.input, tuple(tensors))
        self.heads = keras.Model((*tensors, *keras.tree.flatten(model.input)), model.output)

    @contextlib.contextmanager
    def recording(self, x):
        with self.tape:
            features = self.trunk(x, training=True)
            self.features = list(features) if isinstance(features, (list, tuple)) else [features]
            with self.upper:
                for feature in self.features:
                    self.upper.watch(feature)
                yield self.heads((*self.features, *self._inputs(x)), training=True)

    def _inputs(self, x):
        structure = self.model.input
        if isinstance(structure, dict) and isinstance(x, dict):
            return [x[name] for name in structure]
        return keras.tree.flatten(x)

    def _lower(self):
        return self.features

    def _keep(self, rows):
        self.rows = rows
        self.matrices = stack_gradients(rows, self.features)

    def gramian(self):
        # Replicas hold different examples of the features: their products add up.
        (gramian,) = all_reduce([gramian_of(self.matrices)])
        return gramian

    def shared_gradients(self, weights):
        combined = combine(self.matrices, weights, self.features)
        gradients = self.tape.gradient(self.features, self.shared, output_gradients=combined)
        return dict(zip(map(key, self.shared), gradients, strict=True))


class LastSharedGradients(FeatureGradients):
    """Task gradients of the last shared layers' variables.

    Only the weights come from these; the gradients of the whole trunk follow
    in one backward pass.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model):
        super().__init__(model)
        layers = model.sharing.last_shared_layers(self.tasks)
        self.last = [variable for layer in layers for variable in layer.trainable_variables]

    def gramian(self):
        rows = []
        for row in self.rows:
            known = [tf.zeros_like(z) if g is None else g for z, g in zip(self.features, row, strict=True)]
            rows.append(self.tape.gradient(self.features, self.last, output_gradients=known))
        return gramian_of(all_reduce(stack_gradients(rows, self.last)))


PLACES = {
    "parameters": ParameterGradients,
    "last_shared": LastSharedGradients,
    "features": FeatureGradients,
}
