"""Training steps whose weights come from the Gramian of task gradients."""

import tensorflow as tf

from keras_mtl.training.tensorflow.batches import first_rows
from keras_mtl.training.tensorflow.feature_gradients import PLACES, FeatureGradients
from keras_mtl.training.tensorflow.forward import (
    add_further_losses,
    batch_size,
    collect,
    forward_pass,
    move_penalties,
    unscaled,
)
from keras_mtl.training.tensorflow.optimizer_step import apply_gradients, share_among_replicas
from keras_mtl.training.tensorflow.second_passes import SecondPasses
from keras_mtl.training.tensorflow.task_gradients import key, replicas


def gramian_step(model, guard, *data):
    """K backward passes, whose gradients are used again for the update."""
    weighting = model.compiled_tasks.weighting
    if weighting.every == 1:
        gradients, step = _solved_gradients(model, *data)
    else:
        gradients, step = _branch(model, weighting.is_due(), _solved_gradients, _reweighted_gradients, data)
        weighting.count_step()
    apply_gradients(model, guard, gradients, step)
    return step


def _solved_gradients(model, x, y, sample_weight):
    """Gradients of one step by variable, and the step."""
    compiled, weighting = model.compiled_tasks, model.compiled_tasks.weighting
    whole = compiled.gramian_fraction == 1
    place = PLACES[compiled.gradients](model) if whole else FeatureGradients(model)
    gradients, step = collect(model, place, forward_pass(model, place, x, y, sample_weight))
    gramian, solved = (place.gramian(), step.present) if whole else _gramian_of_part(model, step, x, y, sample_weight)
    gramian = unscaled(gramian, step.scale)
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
    share_among_replicas(gradients, learned)
    gradients.update(place.shared_gradients(weights))
    add_further_losses(gradients, place, step)
    compiled.track_losses(step.batch, step.added, batch_size(x), step.finite)
    move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    compiled.track_gramian(gramian, step.present)
    return gradients, step


def _gramian_of_part(model, whole, *data):
    """Gramian of the first examples of a batch, and the tasks with labels there."""
    compiled = model.compiled_tasks
    x, y, sample_weight = first_rows(
        data, tf.cast(tf.math.ceil(compiled.gramian_fraction * batch_size(data[0])), tf.int32)
    )
    place = PLACES[compiled.gradients](model)
    with SecondPasses(model).one():
        _, step = collect(model, place, forward_pass(model, place, x, y, sample_weight, tasks_alone=True))
    return place.gramian(), tf.minimum(step.present, whole.present)


def _reweighted_gradients(model, x, y, sample_weight):
    """Same as `_solved_gradients` with the last weights: one pass of the trunk."""
    compiled = model.compiled_tasks
    place = FeatureGradients(model)
    gradients, step = collect(model, place, forward_pass(model, place, x, y, sample_weight))
    weights = compiled.weighting.last_weights * step.present
    gradients.update(place.shared_gradients(weights))
    add_further_losses(gradients, place, step)
    compiled.track_losses(step.batch, step.added, batch_size(x), step.finite)
    move_penalties(compiled, step.penalties, x)
    compiled.track_weights(weights, step.present)
    return gradients, step


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
                tf.zeros(v.shape, v.dtype) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(found, variables, strict=True)
            ]
            return found, step.present, step.finite

        return run

    found, present, finite = tf.cond(condition, dense(if_true), dense(if_false))
    return dict(zip(map(key, variables), found, strict=True)), steps[0]._replace(present=present, finite=finite)
