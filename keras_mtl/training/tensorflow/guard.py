"""What becomes of a step whose numbers are not finite, on TensorFlow."""

import keras
import tensorflow as tf

from keras_mtl.training.tensorflow.sparse_gradients import choose
from keras_mtl.training.tensorflow.task_gradients import all_reduce, replicas


class StepGuard:
    """Lets a training step through where its numbers are finite.

    A step that is not let through leaves variables, optimizer, weighting state
    and the layers' statistics as they were. All is decided in the graph: the
    host learns of it from a tracker, later.

    Under dynamic loss scaling gradients overflow as a matter of course. Then
    the optimizer skips the step, and only the weighting state is set back here.

    Args:
        model: A compiled `MultiTaskModel`, before the step.
        inputs_finite: Boolean scalar. Whether the inputs are finite, or need
            not be.
    """

    def __init__(self, model, inputs_finite=True):
        self.model = model
        self._inputs_finite = inputs_finite
        self.compiled = model.compiled_tasks
        self._scaled = loss_is_scaled(model)
        state = self.compiled.weighting.non_trainable_variables
        self._state = _with_values(state)
        self._statistics = _with_values(_statistics(model, state))
        self._moves = optimizer_moves(model.optimizer)
        self._of_steps = set() if self._moves is True else _state_of_steps(model)

    def apply(self, pairs, finite, present):
        """Takes the optimizer step, if it may be taken.

        Args:
            pairs: List of pairs of gradient and variable.
            finite: Boolean tensor of shape `(K,)`. Whether a task's numbers
                were finite.
            present: Float tensor of shape `(K,)`. 1 for the tasks in the step.
        """
        tracker = self.compiled.nonfinite_tracker
        finite = tf.logical_and(finite, self._inputs_finite)
        gradients_finite = _all_finite([gradient for gradient, _ in pairs], exactly=self._scaled)
        # Where the weighting follows gradients, its state has moved by now.
        step_finite = tf.logical_and(gradients_finite, _all_finite([v.value for v, _ in self._state if is_float(v)]))
        usable = tf.reduce_all(finite)
        if self.compiled.on_nonfinite == "skip_task":
            usable = tf.logical_or(usable, tf.reduce_any(present > 0))
        overflow = tf.logical_not(gradients_finite) if self._scaled else False
        if self._scaled and replicas() > 1:
            # The optimizer looks at the first replica's gradients alone, before they are added up.
            pairs = [(choose(gradients_finite, gradient, float("nan")), variable) for gradient, variable in pairs]
        usable = tf.logical_and(usable, tf.logical_or(step_finite, overflow))
        if self.compiled.on_nonfinite == "raise":
            # Later steps of the epoch are left out too, until the host comes to raise.
            waiting = tracker.any()
            tracker.update_state(
                tf.logical_not(tf.logical_or(finite, waiting)),
                tf.logical_not(tf.logical_or(usable, waiting)),
                replicas(),
            )
            usable = tf.logical_and(usable, tf.logical_not(waiting))
        else:
            tracker.update_state(tf.logical_not(finite), tf.logical_not(usable), replicas())
        self._let_through = usable
        self._stepped = tf.logical_and(usable, step_finite)
        _apply_if(usable, self.model.optimizer, pairs)

    def if_optimizer_steps(self, follow):
        """Calls a function unless the optimizer has only accumulated gradients.

        Args:
            follow: Function without arguments, which changes state.
        """
        if self._moves is True or replicas() > 1:  # replicas cannot meet inside a branch: `restore` sets back
            follow()
            return

        def followed():
            follow()
            return tf.constant(True)

        tf.cond(self._moves, followed, lambda: tf.constant(False))

    def restore(self):
        """Sets back what a step that was not taken has changed."""
        for kept, before in ((self._stepped, self._state), (self._let_through, self._statistics)):
            for variable, old in before:
                moved = tf.logical_and(kept, self._moves) if id(variable) in self._of_steps else kept
                variable.assign(tf.where(moved, variable.value, old))


def loss_is_scaled(model):
    """Whether the optimizer scales the loss and skips steps that overflow."""
    return getattr(model.optimizer, "dynamic_scale", None) is not None


def optimizer_moves(optimizer):
    """Whether the optimizer's next step changes variables, and does not only accumulate gradients.

    Args:
        optimizer: Keras optimizer.

    Returns:
        `True` where it does not accumulate at all, else a boolean tensor.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    several = getattr(optimizer, "optimizers", [optimizer])
    if not all(one.gradient_accumulation_steps for one in several):
        return True
    moves = [tf.equal((one._iterations.value + 1) % one.gradient_accumulation_steps, 0) for one in several]
    return tf.reduce_any(moves)


def _state_of_steps(model):
    """Ids of the variables that count or follow the optimizer's steps."""
    layers = [model.compiled_tasks.weighting, *model._flatten_layers(include_self=False)]
    return {id(v) for layer in layers for v in getattr(layer, "state_of_steps", list)()}


def finite_tasks(gradients):
    """Which of K lists of gradients are finite, on all replicas.

    Args:
        gradients: List of K lists of tensors or `None`.

    Returns:
        Boolean tensor of shape `(K,)`.
    """
    (sums,) = all_reduce([tf.stack([_sum(of_task) for of_task in gradients])])
    return tf.math.is_finite(sums)


def _sum(gradients):
    # One pass that makes nothing new; infinities and NaN stay what they are in a sum.
    values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients if g is not None]
    return tf.add_n([tf.cast(tf.reduce_sum(v), tf.float32) for v in values]) if values else tf.zeros(())


def is_float(variable):
    """Whether a variable can be NaN or infinite."""
    return "float" in variable.dtype


def _all_finite(gradients, exactly=False):
    """Whether all gradients of a step are finite, on all replicas."""
    if not gradients:
        return tf.constant(True)
    if exactly:  # as the optimizer sees it: scaled gradients are finite where their sum is not
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
        wrong = [tf.logical_not(tf.reduce_all(tf.math.is_finite(v))) for v in values]
        (count,) = all_reduce([tf.reduce_sum(tf.cast(tf.stack(wrong), tf.float32))])
        return tf.equal(count, 0.0)
    (total,) = all_reduce([_sum(gradients)])
    return tf.math.is_finite(total)


def _apply_if(condition, optimizer, pairs):
    if not pairs:  # a batch without labels, under weightings that take task gradients
        return

    def apply(pairs):
        if tf.distribute.has_strategy() or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.apply_gradients(pairs)
            return
        # In a replica's context Keras adds gradients up even where there is one replica, and TensorFlow registers that
        # for each traced graph, by a function that keeps the graph until the process ends. Loss scaling refuses to be
        # called from elsewhere.
        tf.distribute.get_replica_context().merge_call(lambda strategy: optimizer.apply_gradients(pairs))

    def conditionally(pairs):
        def step():
            apply(pairs)
            return tf.constant(True)

        tf.cond(condition, step, lambda: tf.constant(False))

    if replicas() == 1 or tf.__internal__.distribute.strategy_supports_no_merge_call():
        conditionally(pairs)
        return

    # Replicas meet to add their gradients up, which they cannot do inside a branch of their own.
    gradients, variables = zip(*pairs, strict=True)

    def of_all(strategy, gradients, condition):
        def step():
            strategy.extended.call_for_each_replica(
                lambda gradients: apply(list(zip(gradients, variables, strict=True))), args=(gradients,)
            )
            return tf.constant(True)

        tf.cond(strategy.experimental_local_results(condition)[0], step, lambda: tf.constant(False))

    tf.distribute.get_replica_context().merge_call(of_all, args=(gradients, condition))


def _with_values(variables):
    return [(variable, tf.identity(variable.value)) for variable in variables]


def _statistics(model, state):
    """Variables that a forward pass may change, such as moving averages.

    Variables of frozen layers do not change, and may be large.
    """
    left_out = {id(variable) for variable in state}
    for layer in model._flatten_layers():
        if not layer.trainable:
            left_out.update(id(variable) for variable in layer.variables)
    variables = [variable for variable in model.non_trainable_weights if id(variable) not in left_out]
    return [variable for variable in variables if is_float(variable) or variable.dtype in ("int32", "int64")]
