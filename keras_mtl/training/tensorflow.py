"""The training and test steps on TensorFlow."""

import contextlib
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_mtl.training.task_gradients import PLACES, FeatureGradients, all_reduce, key, replicas
from keras_mtl.training.task_losses import TaskBatch


def train_step(model, data):
    """Runs one optimizer step; what `MultiTaskModel.train_step` does.

    Args:
        model: A compiled `MultiTaskModel`.
        data: What the data set yields: `x, y` or `x, y, sample_weight`.

    Returns:
        Dict of logs.
    """
    data = keras.utils.unpack_x_y_sample_weight(data)
    weighting = model.compiled_tasks.weighting
    if weighting.requires == "losses":
        _loss_step(model, *data)
    elif weighting.requires == "jacobian":
        _jacobian_step(model, *data)
    else:
        _gramian_step(model, *data)
    return model.get_metrics_result()


def test_step(model, data):
    """Evaluates one batch; what `MultiTaskModel.test_step` does."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    batch = model.compiled_tasks.task_losses(y, model(x, training=False), sample_weight)
    model.compiled_tasks.track_losses(batch, added_losses(model), _batch_size(x))
    return model.get_metrics_result()


class TaskValues:
    """The tasks' mean losses on one batch, over all replicas.

    Attributes:
        each: List of K scalars, times their static weights. Their value is
            that of the whole batch, their gradient this replica's part.
        present: Float tensor of shape `(K,)`. 1 for tasks with labels.
    """

    def __init__(self, compiled, batch):
        divisors, counts = batch.divisors, batch.counts
        if replicas() > 1:
            sums, divisors, counts = all_reduce([tf.stop_gradient(tf.stack(batch.sums)), divisors, counts])
            divisors = tf.where(compiled.task_losses.summed, 1.0, divisors)
        means = [tf.math.divide_no_nan(s, divisors[k]) for k, s in enumerate(batch.sums)]
        if replicas() > 1:
            whole = tf.math.divide_no_nan(sums, divisors)
            means = [part + tf.stop_gradient(whole[k] - part) for k, part in enumerate(means)]
        static = compiled.static_weights.value
        self.each = [mean * static[k] for k, mean in enumerate(means)]
        self.present = tf.cast(tf.logical_and(counts > 0, static > 0), tf.float32)

    @property
    def all(self):
        """The K losses as one tensor."""
        return tf.stack(self.each)


def _loss_step(model, x, y, sample_weight):
    """One backward pass through a weighted sum of the losses."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        added = added_losses(model)  # before replicas meet: they keep what layers add in one list
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        values = TaskValues(compiled, batch)
        losses, present = values.all, values.present
        weights = weighting.task_weights(losses, present)
        total = weighting.objective(losses, weights, present) + added / replicas()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    gradients = dict(zip(map(key, variables), tape.gradient(scaled, variables), strict=True))
    _share_among_replicas(gradients, weighting.trainable_variables)
    with _state_kept_on_overflow(model, losses):
        _apply(model, gradients, tuple(batch.labels))
        weighting.update(losses, present, weights)
        if weighting.second_forward:
            again = compiled.task_losses(y, model(x, training=True), sample_weight, training=True)
            weighting.after_step(losses, TaskValues(compiled, again).all, present)
    compiled.track_losses(batch, added, _batch_size(x))
    compiled.track_weights(weights, present)


def _gramian_step(model, *data):
    """K backward passes, whose gradients are used again for the update."""
    weighting = model.compiled_tasks.weighting
    if weighting.every == 1:
        gradients, tasks = _solved_gradients(model, *data)
    else:
        gradients, tasks = _branch(model, weighting.is_due(), _solved_gradients, _reweighted_gradients, data)
        weighting.count_step()
    _apply(model, gradients, tasks)


def _solved_gradients(model, x, y, sample_weight):
    """Gradients of one step by variable, and the tasks that were in the batch."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    whole = compiled.gramian_fraction == 1
    place = PLACES[compiled.gradients](model) if whole else FeatureGradients(model)
    step = _forward(model, place, x, y, sample_weight)
    gradients = place.collect(step.scaled)
    gramian, solved = (place.gramian(), step.present) if whole else _gramian_of_part(model, x, y, sample_weight)
    gramian = gramian / (step.scale * step.scale)
    with _state_kept_on_overflow(model, gramian):
        with tf.GradientTape() as tape:
            weights = weighting.task_weights(step.losses, solved, gramian)
            if not whole:  # tasks without labels in the part weigh as the others do on average
                mean = tf.math.divide_no_nan(tf.reduce_sum(weights), tf.reduce_sum(solved))
                weights += mean * step.present * (1.0 - solved)
            objective = weighting.objective(step.losses, weights, step.present) * step.scale
        weighting.update(step.losses, step.present, weights, gramian)
        weighting.keep(weights)
    learned = weighting.trainable_variables
    gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
    _share_among_replicas(gradients, learned)
    gradients.update(place.shared_gradients(weights))
    _add(gradients, place, step)
    compiled.track_losses(step.batch, step.added, _batch_size(x))
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)
    return gradients, tuple(step.batch.labels)


def _gramian_of_part(model, *data):
    """Gramian of the first examples of a batch, and the tasks with labels there."""
    compiled = model.compiled_tasks
    size = tf.cast(tf.shape(keras.tree.flatten(data[0])[0])[0], tf.float32)
    part = tf.cast(tf.math.ceil(compiled.gramian_fraction * size), tf.int32)
    data = keras.tree.map_structure(lambda t: None if t is None else t[:part], data)
    place = PLACES[compiled.gradients](model)
    step = _forward(model, place, *data)
    place.collect(step.scaled)
    return place.gramian(), step.present


def _reweighted_gradients(model, x, y, sample_weight):
    """Same as `_solved_gradients` with the last weights: one pass of the trunk."""
    compiled = model.compiled_tasks
    place = FeatureGradients(model)
    step = _forward(model, place, x, y, sample_weight)
    gradients = place.collect(step.scaled)
    weights = compiled.weighting.last_weights * step.present
    gradients.update(place.shared_gradients(weights))
    _add(gradients, place, step)
    compiled.track_losses(step.batch, step.added, _batch_size(x))
    compiled.track_weights(weights, step.present)
    return gradients, tuple(step.batch.labels)


def _jacobian_step(model, x, y, sample_weight):
    """K backward passes for each part of the batch; the method gives the direction."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    gradients, jacobians, steps, gramians = {}, [], [], []
    parts = weighting.sub_batches
    for part in range(parts):
        # Every S-th example: parts are independent and as large as can be.
        data = keras.tree.map_structure(
            lambda t, part=part: None if t is None else t[part::parts], (x, y, sample_weight)
        )
        place = PLACES[compiled.gradients](model)
        step = _forward(model, place, *data)
        found = place.collect(step.scaled)
        _add(found, place, step)
        for name, gradient in found.items():
            if gradient is not None:
                gradients[name] = gradients.get(name, 0.0) + gradient / parts
        jacobians.append(place.gradients.jacobian() / step.scale)
        gramians.append(place.gramian() / (step.scale * step.scale))
        steps.append(step)
        compiled.track_losses(step.batch, step.added, _batch_size(data[0]))
    losses = tf.stack([step.losses for step in steps])
    present = tf.reduce_max([step.present for step in steps], axis=0)
    gramian = tf.add_n(gramians) / parts
    jacobian = jacobians[0] if parts == 1 else tf.stack(jacobians)
    with _state_kept_on_overflow(model, gramian):
        direction, weights = weighting.direction(jacobian, losses[0] if parts == 1 else losses, present)
    for name, gradient in place.split(direction * steps[0].scale).items():
        gradients[name] = gradients.get(name, 0.0) + gradient
    _apply(model, gradients, tuple(steps[0].batch.labels))
    compiled.track_weights(weights, present)
    compiled.track_gramian(gramian, present)


class _Forward(NamedTuple):
    batch: TaskBatch
    losses: tf.Tensor
    present: tf.Tensor
    scale: tf.Tensor
    scaled: list
    added: tf.Tensor
    scaled_added: tf.Tensor | None


def _forward(model, place, x, y, sample_weight):
    """The tasks' losses on one batch, recorded where the gradients are taken."""
    compiled = model.compiled_tasks
    scale = model.optimizer.scale_loss(1.0)
    with place.recording(x) as y_pred:
        added = added_losses(model)  # before replicas meet: they keep what layers add in one list
        scaled_added = added * scale / replicas() if model.losses else None
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        values = TaskValues(compiled, batch)
        scaled = [value * scale for value in values.each]
    return _Forward(batch, tf.stop_gradient(values.all), values.present, scale, scaled, added, scaled_added)


def _add(gradients, place, step):
    """Adds the gradients of what layers and regularizers add to the loss."""
    if step.scaled_added is not None:
        for name, gradient in place.added(step.scaled_added).items():
            before = gradients.get(name)
            gradients[name] = gradient if before is None else before + gradient


def _branch(model, condition, if_true, if_false, data):
    """Takes the gradients in one of two ways, in the graph."""
    if replicas() > 1:
        raise ValueError(
            f"`every` should be 1 under a distribution strategy, whose replicas cannot branch. "
            f"Received: every={model.compiled_tasks.weighting.every}"
        )
    variables, tasks = model.trainable_variables, []

    def dense(take):
        def run():
            gradients, seen = take(model, *data)
            tasks.append(seen)
            found = [gradients.get(key(v)) for v in variables]
            return [
                tf.zeros(v.shape) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(found, variables, strict=True)
            ]

        return run

    found = tf.cond(condition, dense(if_true), dense(if_false))
    return dict(zip(map(key, variables), found, strict=True)), tasks[0]


def added_losses(model):
    """Sum of what layers and regularizers add to the loss."""
    losses = model.losses
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else tf.zeros(())


def _batch_size(x):
    return tf.cast(tf.shape(keras.tree.flatten(x)[0])[0], tf.float32)


def _share_among_replicas(gradients, variables):
    """Every replica has the whole gradient of these; the optimizer sums them."""
    if replicas() > 1:
        for variable in variables:
            gradients[key(variable)] = gradients[key(variable)] / replicas()


def _apply(model, gradients, tasks):
    variables = model.trainable_variables
    trained = [task for task in tasks if task in model.compiled_tasks.tasks]
    unreached = [v.path for v in variables if gradients.get(key(v)) is None and model.sharing.serves(v, trained)]
    if unreached:
        raise ValueError(
            "Every trainable variable should get a gradient from its tasks' losses. Received: no gradient for "
            f"{unreached}. Is there an operation without gradient behind them?"
        )
    if not model.optimizer.built:  # a step outside `fit`: the batch may lack a task, the optimizer may not
        with tf.init_scope():
            model.optimizer.build(variables)
    if hasattr(model.optimizer, "optimizers"):
        # A `MultiOptimizer` wants a gradient for each variable: those of absent tasks get zeros.
        gradients = {key(v): tf.zeros_like(v) if (g := gradients.get(key(v))) is None else g for v in variables}
    model.optimizer.apply_gradients([(gradients[key(v)], v) for v in variables if gradients.get(key(v)) is not None])


@contextlib.contextmanager
def _state_kept_on_overflow(model, values):
    """Sets weighting state back after a step that mixed precision skips."""
    if getattr(model.optimizer, "dynamic_scale", None) is None:
        yield
        return
    finite = tf.reduce_all(tf.math.is_finite(values))
    state = model.compiled_tasks.weighting.non_trainable_variables
    before = [tf.identity(variable.value) for variable in state]
    yield
    for variable, old in zip(state, before, strict=True):
        variable.assign(tf.where(finite, variable.value, old))
