"""The training and test steps on TensorFlow."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_mtl.layers.stage import layers_called_by
from keras_mtl.training import max_pooling
from keras_mtl.training.guard import StepGuard, finite_tasks, loss_is_scaled
from keras_mtl.training.penalties import PenaltyBatch
from keras_mtl.training.task_gradients import PLACES, FeatureGradients, ParameterGradients, all_reduce, key, replicas
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
    guard = StepGuard(model)
    if weighting.requires == "losses":
        _loss_step(model, guard, *data)
    elif weighting.requires == "jacobian":
        _jacobian_step(model, guard, *data)
    elif weighting.requires == "features":
        _feature_step(model, guard, *data)
    else:
        _gramian_step(model, guard, *data)
    guard.restore()
    return _logs(model)


def test_step(model, data):
    """Evaluates one batch; what `MultiTaskModel.test_step` does."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    compiled = model.compiled_tasks
    batch = compiled.task_losses(y, model(x, training=False), sample_weight)
    compiled.track_losses(batch, added_losses(model), _batch_size(x))
    if compiled.penalties:
        _track_penalties(compiled, compiled.penalties(batch), x)
    return _logs(model)


def _logs(model):
    """The logs as Keras reduces them over replicas."""
    logs = model.get_metrics_result()
    if getattr(model.distribute_strategy, "cluster_resolver", None) is None:
        return logs
    # Over several workers Keras 3.15 takes a mean along the first axis, which numbers do not have.
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


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
        means = [tf.math.divide_no_nan(s, n) for s, n in zip(batch.sums, tf.unstack(divisors), strict=True)]
        if replicas() > 1:
            whole = tf.math.divide_no_nan(sums, divisors)
            means = [part + tf.stop_gradient(whole[k] - part) for k, part in enumerate(means)]
        static = compiled.static_weights.value
        self.each = [mean * weight for mean, weight in zip(means, tf.unstack(static), strict=True)]
        self.present = tf.cast(tf.logical_and(counts > 0, static > 0), tf.float32)

    @property
    def all(self):
        """The K losses as one tensor."""
        return tf.stack(self.each)


def _loss_step(model, guard, x, y, sample_weight):
    """One backward pass through a weighted sum of the losses."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    if compiled.on_nonfinite == "skip_task":
        step, weights, gradients = _task_by_task(model, x, y, sample_weight)
    else:
        step, weights, gradients = _all_at_once(model, x, y, sample_weight)
    _share_among_replicas(gradients, weighting.trainable_variables)
    _apply(model, guard, gradients, step)
    weighting.update(step.losses, step.present, weights)
    if weighting.second_forward:
        again = TaskValues(compiled, compiled.task_losses(y, model(x, training=True), sample_weight, training=True)).all
        # A loss that is finite no more counts as one that has not changed.
        weighting.after_step(step.losses, tf.where(tf.math.is_finite(again), again, step.losses), step.present)
    compiled.track_losses(step.batch, step.added, _batch_size(x), step.finite)
    _move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)


def _all_at_once(model, x, y, sample_weight):
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    with tf.GradientTape() as tape:
        with layers_called_by(max_pooling.call_layer):
            y_pred = model(x, training=True)
        added = added_losses(model)  # before replicas meet: they keep what layers add in one list
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        values = TaskValues(compiled, batch)
        losses, present = values.all, values.present
        weights = weighting.task_weights(losses, present)
        penalties = compiled.penalties(batch, training=True) if compiled.penalties else None
        more = added if penalties is None else added + penalties.total
        total = weighting.objective(losses, weights, present) + more / replicas()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    gradients = dict(zip(map(key, variables), tape.gradient(scaled, variables), strict=True))
    step = _Step(batch, tf.stop_gradient(losses), present, tf.math.is_finite(losses), added, penalties)
    return step, weights, gradients


def _task_by_task(model, x, y, sample_weight):
    """Same gradients, the tasks' apart up to the shared features, so that one can be left out."""
    weighting, tasks = model.compiled_tasks.weighting, model.compiled_tasks.tasks
    place = (FeatureGradients if model.sharing.shared_variables(tasks) else ParameterGradients)(model)
    forward = _forward(model, place, x, y, sample_weight)
    gradients, step = _collect(model, place, forward)
    learned = weighting.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(step.losses)
        weights = weighting.task_weights(step.losses, step.present)
        objective = weighting.objective(step.losses, weights, step.present) * forward.scale
    slopes = tape.gradient(objective, step.losses) / forward.scale
    for task, slope in zip(tasks, tf.unstack(slopes), strict=True):
        for name in map(key, place.own[task]):
            gradients[name] = None if gradients[name] is None else _times(gradients[name], slope)
    gradients.update(place.shared_gradients(slopes))
    gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
    _add(gradients, place, forward)
    return step, weights, gradients


def _gramian_step(model, guard, *data):
    """K backward passes, whose gradients are used again for the update."""
    weighting = model.compiled_tasks.weighting
    if weighting.every == 1:
        gradients, step = _solved_gradients(model, *data)
    else:
        gradients, step = _branch(model, weighting.is_due(), _solved_gradients, _reweighted_gradients, data)
        weighting.count_step()
    _apply(model, guard, gradients, step)


def _solved_gradients(model, x, y, sample_weight):
    """Gradients of one step by variable, and the step."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    whole = compiled.gramian_fraction == 1
    place = PLACES[compiled.gradients](model) if whole else FeatureGradients(model)
    gradients, step = _collect(model, place, _forward(model, place, x, y, sample_weight))
    gramian, solved = (place.gramian(), step.present) if whole else _gramian_of_part(model, step, x, y, sample_weight)
    gramian = _unscaled(gramian, step.scale)
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
    compiled.track_losses(step.batch, step.added, _batch_size(x), step.finite)
    _move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)
    return gradients, step


def _gramian_of_part(model, whole, *data):
    """Gramian of the first examples of a batch, and the tasks with labels there."""
    compiled = model.compiled_tasks
    size = tf.cast(tf.shape(keras.tree.flatten(data[0])[0])[0], tf.float32)
    part = tf.cast(tf.math.ceil(compiled.gramian_fraction * size), tf.int32)
    data = keras.tree.map_structure(lambda t: None if t is None else t[:part], data)
    place = PLACES[compiled.gradients](model)
    _, step = _collect(model, place, _forward(model, place, *data))
    return place.gramian(), tf.minimum(step.present, whole.present)


def _reweighted_gradients(model, x, y, sample_weight):
    """Same as `_solved_gradients` with the last weights: one pass of the trunk."""
    compiled = model.compiled_tasks
    place = FeatureGradients(model)
    gradients, step = _collect(model, place, _forward(model, place, x, y, sample_weight))
    weights = compiled.weighting.last_weights * step.present
    gradients.update(place.shared_gradients(weights))
    _add(gradients, place, step)
    compiled.track_losses(step.batch, step.added, _batch_size(x), step.finite)
    _move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    return gradients, step


def _feature_step(model, guard, x, y, sample_weight):
    """One backward pass of the trunk, from task gradients of the features that the weighting has changed."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    place = FeatureGradients(model)
    gradients, step = _collect(model, place, _forward(model, place, x, y, sample_weight))
    gramian = _unscaled(place.gramian(), step.scale)
    with tf.GradientTape() as tape:
        changed, objective = weighting.align(place.by_example(), step.present, all_reduce)
        objective = objective * step.scale
    learned = weighting.trainable_variables
    gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
    gradients.update(place.gradients_from(tf.einsum("kbd,k->bd", changed, step.present)))
    _add(gradients, place, step)
    weights = weighting.task_weights(step.losses, step.present)
    _apply(model, guard, gradients, step)
    compiled.track_losses(step.batch, step.added, _batch_size(x), step.finite)
    _move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)


def _jacobian_step(model, guard, x, y, sample_weight):
    """K backward passes for each part of the batch; the method gives the direction."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    gradients, jacobians, steps, gramians = {}, [], [], []
    parts = weighting.sub_batches
    for part in range(parts):
        # Every S-th example: parts are independent and as large as can be. None is empty: batches that are too small
        # for that give an example to several parts.
        first = part % _rows(x)
        data = keras.tree.map_structure(
            lambda t, first=first: None if t is None else t[first::parts], (x, y, sample_weight)
        )
        place = PLACES[compiled.gradients](model)
        found, step = _collect(model, place, _forward(model, place, *data))
        _add(found, place, step)
        for name, gradient in found.items():
            if gradient is not None:
                gradients[name] = gradients.get(name, 0.0) + gradient / parts
        jacobians.append(place.gradients.jacobian() / step.scale)
        gramians.append(_unscaled(place.gramian(), step.scale))
        steps.append(step)
        compiled.track_losses(step.batch, step.added, _batch_size(data[0]), step.finite)
        _move_penalties(compiled, step.penalties, data[0])
    losses = tf.stack([step.losses for step in steps])
    present = tf.reduce_max([step.present for step in steps], axis=0)
    finite = tf.reduce_all([step.finite for step in steps], axis=0)
    gramian = tf.add_n(gramians) / parts
    jacobian = jacobians[0] if parts == 1 else tf.stack(jacobians)
    direction, weights = weighting.direction(jacobian, losses[0] if parts == 1 else losses, present)
    for name, gradient in place.split(direction * steps[0].scale).items():
        gradients[name] = gradients.get(name, 0.0) + gradient
    _apply(model, guard, gradients, steps[0]._replace(present=present, finite=finite))
    compiled.track_weights(weights, present)
    compiled.track_gramian(gramian, present)


class _Step(NamedTuple):
    """What is known of a step: K losses and whether they are there and finite, what layers add, and penalties."""

    batch: TaskBatch
    losses: tf.Tensor
    present: tf.Tensor
    finite: tf.Tensor
    added: tf.Tensor
    penalties: PenaltyBatch | None = None
    scale: tf.Tensor | float = 1.0
    scaled: list | None = None
    scaled_added: tf.Tensor | None = None


def _forward(model, place, x, y, sample_weight):
    """The tasks' losses on one batch, recorded where the gradients are taken."""
    compiled = model.compiled_tasks
    scale = model.optimizer.scale_loss(1.0)
    with place.recording(x) as y_pred:
        added = added_losses(model)  # before replicas meet: they keep what layers add in one list
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        penalties = compiled.penalties(batch, training=True) if compiled.penalties else None
        more = added if penalties is None else added + penalties.total
        scaled_added = more * scale / replicas() if model.losses or penalties else None
        values = TaskValues(compiled, batch)
        scaled = [value * scale for value in values.each]
    losses = tf.stop_gradient(values.all)
    finite = tf.math.is_finite(losses)
    return _Step(batch, losses, values.present, finite, added, penalties, scale, scaled, scaled_added)


def _collect(model, place, step):
    """Takes the task gradients, without those that are not finite where `on_nonfinite` says so.

    Returns:
        Tuple of the gradients of the tasks' own variables and the step.
    """
    if model.compiled_tasks.on_nonfinite != "skip_task":
        return place.collect(step.scaled), step
    gradients = place.collect(step.scaled, lambda rows: _usable(model, step, rows))
    present = step.present * tf.cast(place.usable, tf.float32)
    losses = tf.where(place.usable, step.losses, tf.zeros_like(step.losses))
    return gradients, step._replace(losses=losses, present=present, finite=place.usable)


def _usable(model, step, rows):
    # Where the loss is scaled, gradients overflow by design: that is for the optimizer to see.
    return step.finite if loss_is_scaled(model) else tf.logical_and(step.finite, finite_tasks(rows))


def _unscaled(gramian, scale):
    # In float64: the square of a loss scale may overflow in float32.
    scale = tf.cast(scale, tf.float64)
    return tf.cast(gramian, tf.float64) / (scale * scale)


def _move_penalties(compiled, penalties, x):
    """Tracks the penalties of a step, and moves their multipliers."""
    if penalties is not None:
        compiled.penalties.update(*_track_penalties(compiled, penalties, x))


def _track_penalties(compiled, penalties, x):
    """Tracks the penalties of a batch. Returns values and what is known, over all replicas."""
    values, known = all_reduce([penalties.values * penalties.known, penalties.known])
    values, known = tf.math.divide_no_nan(values, known), tf.cast(known > 0, tf.float32)
    compiled.penalties.track(values, known, _batch_size(x))
    return values, known


def _add(gradients, place, step):
    """Adds the gradients of what layers, regularizers and penalties add to the loss."""
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
    variables, steps = model.trainable_variables, []

    def dense(take):
        def run():
            gradients, step = take(model, *data)
            steps.append(step)
            found = [gradients.get(key(v)) for v in variables]
            found = [
                tf.zeros(v.shape) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(found, variables, strict=True)
            ]
            return found, step.present, step.finite

        return run

    found, present, finite = tf.cond(condition, dense(if_true), dense(if_false))
    return dict(zip(map(key, variables), found, strict=True)), steps[0]._replace(present=present, finite=finite)


def added_losses(model):
    """Sum of what layers and regularizers add to the loss."""
    losses = model.losses
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else tf.zeros(())


def _batch_size(x):
    return tf.cast(tf.shape(keras.tree.flatten(x)[0])[0], tf.float32)


def _rows(x):
    """Number of examples in a batch, at least 1."""
    first = keras.tree.flatten(x)[0]
    return tf.maximum(tf.shape(first)[0], 1) if first.shape[0] is None else max(first.shape[0], 1)


def _times(gradient, factor):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)


def _share_among_replicas(gradients, variables):
    """Every replica has the whole gradient of these; the optimizer sums them."""
    if replicas() > 1:
        for variable in variables:
            gradients[key(variable)] = gradients[key(variable)] / replicas()


def _apply(model, guard, gradients, step):
    variables = model.trainable_variables
    trained = [task for task in step.batch.labels if task in model.compiled_tasks.tasks]
    unreached = [v.path for v in variables if gradients.get(key(v)) is None and model.sharing.serves(v, trained)]
    if unreached:
        raise ValueError(
            "Every trainable variable should get a gradient from its tasks' losses. Received: no gradient for "
            f"{unreached}. Is there an operation without gradient behind them?"
        )
    if not model.optimizer.built:  # a step outside `fit`: the batch may lack a task, the optimizer may not
        with tf.init_scope():
            model.build_optimizer()
    frozen = []
    if hasattr(model.optimizer, "optimizers"):
        # A `MultiOptimizer` wants a gradient for each variable that it was built for: those of absent tasks get zeros,
        # and so do frozen ones, which stay what they are whatever momentum or weight decay make of that.
        trained = set(map(key, variables))
        variables = model.compiled_tasks.optimized or variables
        frozen = [(v, tf.identity(v.value)) for v in variables if key(v) not in trained]
        gradients = {key(v): tf.zeros_like(v) if (g := gradients.get(key(v))) is None else g for v in variables}
    pairs = [(gradients[key(v)], v) for v in variables if gradients.get(key(v)) is not None]
    guard.apply(pairs, step.finite, step.present)
    for variable, value in frozen:
        variable.assign(value)
