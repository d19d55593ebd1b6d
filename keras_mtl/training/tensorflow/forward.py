"""The first half of a training step: the tasks' losses on one batch, and their gradients."""

from typing import NamedTuple

import tensorflow as tf

from keras_mtl.losses.task_losses import TaskBatch
from keras_mtl.penalties._of_model import PenaltyBatch
from keras_mtl.training.tensorflow import sparse_gradients
from keras_mtl.training.tensorflow.batches import number_of_rows
from keras_mtl.training.tensorflow.guard import finite_tasks, loss_is_scaled
from keras_mtl.training.tensorflow.task_gradients import all_reduce, replicas


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


class Step(NamedTuple):
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
    y_pred: object = None


def forward_pass(model, place, x, y, sample_weight, *, tasks_alone=False):
    """The tasks' losses on one batch, recorded where the gradients are taken.

    Args:
        model: A compiled `MultiTaskModel`.
        place: Where task gradients are taken.
        x: Inputs.
        y: Dict from task to labels.
        sample_weight: As in `fit`.
        tasks_alone: Boolean. Whether what layers, regularizers and penalties
            add is left out. Defaults to `False`.

    Returns:
        A `Step`.
    """
    compiled = model.compiled_tasks
    scale = model.optimizer.scale_loss(1.0)
    scale = tf.cast(scale, tf.float32) if tf.is_tensor(scale) else scale
    with place.recording(x) as y_pred:
        # Before replicas meet: they keep what layers add in one list.
        added = tf.zeros(()) if tasks_alone else added_losses(model)
        batch = compiled.task_losses(y, y_pred, sample_weight, training=True)
        penalties = terms = None
        if not tasks_alone:
            penalties = compiled.penalties(batch, training=True) if compiled.penalties else None
            terms = overridden_loss(model, x, y, y_pred, sample_weight)
        added = added if terms is None else added + terms
        more = added if penalties is None else added + penalties.total
        further = not tasks_alone and (model.losses or penalties or terms is not None)
        scaled_added = more * scale / replicas() if further else None
        values = TaskValues(compiled, batch)
        scaled = [value * scale for value in values.each]
    losses = tf.stop_gradient(values.all)
    finite = tf.math.is_finite(losses)
    return Step(batch, losses, values.present, finite, added, penalties, scale, scaled, scaled_added, y_pred)


def collect(model, place, step):
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


def unscaled(gramian, scale):
    """A Gramian without the loss scale, in float64: the square of the scale may overflow in float32."""
    scale = tf.cast(scale, tf.float64)
    return tf.cast(gramian, tf.float64) / (scale * scale)


def add_further_losses(gradients, place, step):
    """Adds the gradients of what layers, regularizers and penalties add to the loss."""
    if step.scaled_added is not None:
        for name, gradient in place.added(step.scaled_added).items():
            gradients[name] = sparse_gradients.add(gradients.get(name), gradient)


def move_penalties(compiled, penalties, x):
    """Tracks the penalties of a step, and moves their multipliers."""
    if penalties is not None:
        compiled.penalties.update(*track_penalties(compiled, penalties, x))


def track_penalties(compiled, penalties, x):
    """Tracks the penalties of a batch. Returns values and what is known, over all replicas."""
    values, known = all_reduce([penalties.values * penalties.known, penalties.known])
    values, known = tf.math.divide_no_nan(values, known), tf.cast(known > 0, tf.float32)
    compiled.penalties.track(values, known, batch_size(x))
    return values, known


def added_losses(model):
    """Sum of what layers and regularizers add to the loss."""
    losses = model.losses
    return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) if losses else tf.zeros(())


def overridden_loss(model, x, y, y_pred, sample_weight, training=True):
    """What a subclass's `compute_loss` has beyond the total of the tasks; `None` where no subclass has its own."""
    if not model.overrides("compute_loss"):
        return None
    compiled = model.compiled_tasks
    compiled.tasks_total = None
    loss = tf.cast(model._compute_loss(x, y, y_pred, sample_weight, training), tf.float32)
    total, compiled.tasks_total = compiled.tasks_total, None  # no tensor outlives its graph
    if total is None:
        if training and (compiled.weighting.weighs or compiled.on_nonfinite == "skip_task"):
            raise ValueError(
                f"`compute_loss` of {type(model).__name__} should add to what `super().compute_loss(...)` returns, "
                f"since {compiled.weighting!r} with `on_nonfinite='{compiled.on_nonfinite}'` needs the tasks' losses "
                "apart. Received: a loss that is not made of it, on which only weighting='equal' trains"
            )
        total = model.total_of_tasks(y, y_pred, sample_weight, training)
    return loss - total


def input_faults(compiled, x):
    """Looks at the inputs of a batch, of all replicas, and tracks what is wrong with them.

    Returns:
        Boolean scalar: whether they are finite, or are not looked at.
    """
    if compiled.inputs_tracker is None:
        return True
    parts = [tf.convert_to_tensor(part) for part in tf.nest.flatten(x, expand_composites=True) if part is not None]
    # NaN where an entry is, else infinite where an entry is: so much smaller, sums of what is finite do not overflow.
    sums = [tf.reduce_sum(tf.abs(tf.cast(p, tf.float32)) * 2.0**-60) for p in parts if p.dtype.is_floating]
    if not sums:
        return True
    (total,) = all_reduce([tf.add_n(sums)])
    compiled.inputs_tracker.update_state(tf.math.is_nan(total), tf.math.is_inf(total))
    return tf.math.is_finite(total)


def batch_size(x):
    """Number of examples in a batch, as a float."""
    return tf.cast(number_of_rows(x), tf.float32)
