"""The training and test steps on TensorFlow."""

import keras
import tensorflow as tf

from keras_mtl.layers.stage import layers_called_by
from keras_mtl.losses.arrays import by_task
from keras_mtl.training.tensorflow import max_pooling, sparse_gradients
from keras_mtl.training.tensorflow.batches import number_of_rows, rows_apart
from keras_mtl.training.tensorflow.feature_gradients import FeatureGradients
from keras_mtl.training.tensorflow.forward import (
    Step,
    TaskValues,
    add_further_losses,
    added_losses,
    batch_size,
    collect,
    forward_pass,
    input_faults,
    move_penalties,
    overridden_loss,
    track_penalties,
    unscaled,
)
from keras_mtl.training.tensorflow.gramian_step import gramian_step
from keras_mtl.training.tensorflow.guard import StepGuard
from keras_mtl.training.tensorflow.optimizer_step import apply_gradients, share_among_replicas
from keras_mtl.training.tensorflow.second_passes import SecondPasses
from keras_mtl.training.tensorflow.task_gradients import (
    OwnGradients,
    ParameterGradients,
    all_reduce,
    key,
    replicas,
)


def train_step(model, data):
    """Runs one optimizer step; what `MultiTaskModel.train_step` does.

    Args:
        model: A compiled `MultiTaskModel`.
        data: What the data set yields: `x, y` or `x, y, sample_weight`.

    Returns:
        Dict of logs.
    """
    data = _unpacked(model, data)
    weighting = model.compiled_tasks.weighting
    guard = StepGuard(model, input_faults(model.compiled_tasks, data[0]))
    if weighting.requires == "losses":
        step = _loss_step(model, guard, *data)
    elif weighting.requires == "jacobian":
        step = _jacobian_step(model, guard, *data)
    elif weighting.requires == "features":
        step = _feature_step(model, guard, *data)
    else:
        step = gramian_step(model, guard, *data)
    guard.restore()
    return _logs(model, step.y_pred, *data)


def test_step(model, data):
    """Evaluates one batch; what `MultiTaskModel.test_step` does."""
    x, y, sample_weight = _unpacked(model, data)
    input_faults(model.compiled_tasks, x)
    y_pred = model(x, training=False)
    track(model, x, y, y_pred, sample_weight, training=False)
    return _logs(model, y_pred, x, y, sample_weight)


def track(model, x, y, y_pred, sample_weight, training):
    """Updates the tasks' losses and metrics with a batch that no training step of ours has seen.

    Args:
        model: A compiled `MultiTaskModel`.
        x: Inputs.
        y: Dict from task to labels.
        y_pred: Dict from task to predictions.
        sample_weight: As in `fit`.
        training: Boolean. Whether class weights hold.
    """
    compiled = model.compiled_tasks
    added = added_losses(model)
    batch = compiled.task_losses(y, y_pred, sample_weight, training)
    terms = overridden_loss(model, x, y, y_pred, sample_weight, training)
    compiled.track_losses(batch, added if terms is None else added + terms, batch_size(x))
    if compiled.penalties:
        track_penalties(compiled, compiled.penalties(batch, training), x)


def _unpacked(model, data):
    """What a data set yields, with labels that are a tuple as a dict keyed by task."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if y is None:
        raise ValueError(
            f"`y` should be given, as a dict keyed by task: {list(model.tasks)}. Received: no labels beside `x`"
        )
    compiled = model.compiled_tasks
    return x, by_task(y, "y", compiled), by_task(sample_weight, "sample_weight", compiled)


def _logs(model, y_pred, x, y, sample_weight):
    """The logs as Keras reduces them over replicas."""
    model.compiled_tasks.in_step = True
    try:
        logs = model.compute_metrics(x, y, y_pred, sample_weight)
    finally:
        model.compiled_tasks.in_step = False
    if getattr(model.distribute_strategy, "cluster_resolver", None) is None:
        return logs
    # Over several workers Keras 3.15 takes a mean along the first axis, which numbers do not have.
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def _loss_step(model, guard, x, y, sample_weight):
    """One backward pass through a weighted sum of the losses."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    if compiled.on_nonfinite == "skip_task":
        step, weights, gradients = _task_by_task(model, x, y, sample_weight)
    else:
        step, weights, gradients = _all_at_once(model, x, y, sample_weight)
    share_among_replicas(gradients, weighting.trainable_variables)
    apply_gradients(model, guard, gradients, step)
    weighting.update(step.losses, step.present, weights)
    if weighting.second_forward:

        def look_again():
            with SecondPasses(model).one():
                y_pred = model(x, training=True)
                batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
            again = TaskValues(compiled, batch).all
            # A loss that is finite no more counts as one that has not changed.
            weighting.after_step(step.losses, tf.where(tf.math.is_finite(again), again, step.losses), step.present)

        guard.if_optimizer_steps(look_again)
    compiled.track_losses(step.batch, step.added, batch_size(x), step.finite)
    move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    return step


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
        terms = overridden_loss(model, x, y, y_pred, sample_weight)
        added = added if terms is None else added + terms
        more = added if penalties is None else added + penalties.total
        total = weighting.objective(losses, weights, present) + more / replicas()
        scaled = model.optimizer.scale_loss(total)
    variables = model.trainable_variables
    gradients = dict(zip(map(key, variables), tape.gradient(scaled, variables), strict=True))
    step = Step(batch, tf.stop_gradient(losses), present, tf.math.is_finite(losses), added, penalties, y_pred=y_pred)
    return step, weights, gradients


def _task_by_task(model, x, y, sample_weight):
    """Same gradients, the tasks' apart up to the shared features, so that one can be left out."""
    weighting, tasks = model.compiled_tasks.weighting, model.compiled_tasks.tasks
    through_features = model.sharing.shared_variables(tasks) and model.sharing.has_features(tasks)
    place = (FeatureGradients if through_features else ParameterGradients)(model)
    forward = forward_pass(model, place, x, y, sample_weight)
    gradients, step = collect(model, place, forward)
    learned = weighting.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(step.losses)
        weights = weighting.task_weights(step.losses, step.present)
        objective = weighting.objective(step.losses, weights, step.present) * forward.scale
    slopes = tape.gradient(objective, step.losses) / forward.scale
    for task, slope in zip(tasks, tf.unstack(slopes), strict=True):
        for name in map(key, place.own[task]):
            gradients[name] = None if gradients[name] is None else sparse_gradients.scale(gradients[name], slope)
    gradients.update(place.shared_gradients(slopes))
    gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
    add_further_losses(gradients, place, forward)
    return step, weights, gradients


def _feature_step(model, guard, x, y, sample_weight):
    """One backward pass of the trunk, from task gradients of the features that the weighting has changed."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    place = FeatureGradients(model)
    gradients, step = collect(model, place, forward_pass(model, place, x, y, sample_weight))
    gramian = unscaled(place.gramian(), step.scale)
    with tf.GradientTape() as tape:
        changed, objective = weighting.align(place.by_example(), step.present, all_reduce)
        objective = objective * step.scale
    learned = weighting.trainable_variables
    gradients.update(zip(map(key, learned), tape.gradient(objective, learned), strict=True))
    gradients.update(place.gradients_from(tf.einsum("kbd,k->bd", changed, step.present)))
    add_further_losses(gradients, place, step)
    weights = weighting.task_weights(step.losses, step.present)
    apply_gradients(model, guard, gradients, step)
    compiled.track_losses(step.batch, step.added, batch_size(x), step.finite)
    move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)
    return step


def _jacobian_step(model, guard, x, y, sample_weight):
    """K backward passes, or K for each part of the batch; the method gives the direction."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    parts = weighting.sub_batches
    place = (ParameterGradients if parts == 1 else OwnGradients)(model)
    gradients, step = collect(model, place, forward_pass(model, place, x, y, sample_weight))
    add_further_losses(gradients, place, step)
    if parts == 1:
        jacobian, losses, finite = place.gradients.jacobian() / step.scale, step.losses, step.finite
        gramian = unscaled(place.gramian(), step.scale)
    else:
        place, jacobian, losses, finite, gramian = _of_parts(model, parts, x, y, sample_weight)
        finite = tf.logical_and(finite, step.finite)
    direction, weights = weighting.direction(jacobian, losses, step.present)
    for name, gradient in place.split(direction * step.scale).items():
        gradients[name] = sparse_gradients.add(gradients.get(name), gradient)
    apply_gradients(model, guard, gradients, step._replace(finite=finite))
    compiled.track_losses(step.batch, step.added, batch_size(x), step.finite)
    move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)
    return step


def _of_parts(model, parts, *data):
    """Task gradients of independent parts of a batch, each by a pass of its own."""
    passes, jacobians, gramians, steps = SecondPasses(model), [], [], []
    for part in range(parts):
        # Every S-th example: parts are independent and as large as can be. None is empty: batches that are too small
        # for that give an example to several parts.
        x, y, sample_weight = rows_apart(data, part % tf.maximum(number_of_rows(data[0]), 1), parts)
        place = ParameterGradients(model)
        with passes.one():
            _, step = collect(model, place, forward_pass(model, place, x, y, sample_weight, tasks_alone=True))
        jacobians.append(place.gradients.jacobian() / step.scale)
        gramians.append(unscaled(place.gramian(), step.scale))
        steps.append(step)
    losses = tf.stack([step.losses for step in steps])
    finite = tf.reduce_all([step.finite for step in steps], axis=0)
    return place, tf.stack(jacobians), losses, finite, tf.add_n(gramians) / parts
