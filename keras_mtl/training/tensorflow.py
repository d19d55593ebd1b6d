"""The training and test steps on TensorFlow."""

import contextlib

import keras
import tensorflow as tf

from keras_mtl.training.task_gradients import PLACES, all_reduce, key, replicas


def train_step(model, data):
    """Runs one optimizer step; what `MultiTaskModel.train_step` does.

    Args:
        model: A compiled `MultiTaskModel`.
        data: What the data set yields: `x, y` or `x, y, sample_weight`.

    Returns:
        Dict of logs.
    """
    step = _gradient_step if model.compiled_tasks.takes_task_gradients else _loss_step
    step(model, *keras.utils.unpack_x_y_sample_weight(data))
    return model.get_metrics_result()


def test_step(model, data):
    """Evaluates one batch; what `MultiTaskModel.test_step` does."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    y_pred = model(x, training=False)
    batch = model.compiled_tasks.task_losses(y, y_pred, sample_weight)
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
        batch = compiled.task_losses(y, model(x, training=True), sample_weight, training=True)
        values = TaskValues(compiled, batch)
        losses, present = values.all, values.present
        weights = weighting.task_weights(losses, present)
        added = added_losses(model)
        total = weighting.objective(losses, weights, present) + added / replicas()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    gradients = dict(zip(map(key, variables), tape.gradient(scaled, variables), strict=True))
    _share_among_replicas(gradients, weighting.trainable_variables)
    with _state_kept_on_overflow(model, losses):
        _apply(model, gradients, batch)
        weighting.update(losses, present, weights)
        if weighting.second_forward:
            again = compiled.task_losses(y, model(x, training=True), sample_weight, training=True)
            weighting.after_step(losses, TaskValues(compiled, again).all, present)
    _track(model, batch, added, weights, present, x)


def _gradient_step(model, x, y, sample_weight):
    """K backward passes, whose gradients are used again for the update."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    place = PLACES[compiled.gradients](model)
    scale = model.optimizer.scale_loss(1.0)
    with place.recording(x) as y_pred:
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        values = TaskValues(compiled, batch)
        losses, present = tf.stop_gradient(values.all), values.present
        scaled = [value * scale for value in values.each]
        added = added_losses(model)
        scaled_added = added * scale / replicas()
    gradients = place.collect(scaled)
    gramian = place.gramian() / (scale * scale)
    with _state_kept_on_overflow(model, gramian):
        if weighting.requires == "jacobian":
            direction, weights = weighting.direction(place.jacobian() / scale, losses, present)
            gradients.update(place.split(direction * scale))
        else:
            with tf.GradientTape() as tape:
                weights = weighting.task_weights(losses, present, gramian)
                objective = weighting.objective(losses, weights, present) * scale
            gradients.update(place.shared_gradients(weights))
            learned = weighting.trainable_variables
            gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
            _share_among_replicas(gradients, learned)
        if model.losses:
            place.add(gradients, scaled_added)
        _apply(model, gradients, batch)
        weighting.update(losses, present, weights, gramian)
    _track(model, batch, added, weights, present, x)
    compiled.track_gramian(gramian, present)


def added_losses(model):
    """Sum of what layers and regularizers add to the loss."""
    return tf.add_n([tf.cast(loss, tf.float32) for loss in model.losses]) if model.losses else tf.zeros(())


def _batch_size(x):
    return tf.cast(tf.shape(keras.tree.flatten(x)[0])[0], tf.float32)


def _share_among_replicas(gradients, variables):
    """Every replica has the whole gradient of these; the optimizer sums them."""
    if replicas() > 1:
        for variable in variables:
            gradients[key(variable)] = gradients[key(variable)] / replicas()


def _apply(model, gradients, batch):
    variables = model.trainable_variables
    unreached = [v.path for v in variables if gradients.get(key(v)) is None and model.serves_a_task_of(v, batch.labels)]
    if unreached:
        raise ValueError(
            "Every trainable variable should get a gradient from its tasks' losses. Received: no gradient for "
            f"{unreached}. Is there an operation without gradient behind them?"
        )
    pairs = [(gradients[key(v)], v) for v in variables if gradients.get(key(v)) is not None]
    model.optimizer.apply_gradients(pairs)


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


def _track(model, batch, added, weights, present, x):
    compiled = model.compiled_tasks
    compiled.track_losses(batch, added, _batch_size(x))
    compiled.weight_tracker.update_state(weights * compiled.static_weights.value, present)
