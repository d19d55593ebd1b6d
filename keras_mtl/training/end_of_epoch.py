"""What happens at the end of an epoch: weighting state, and a look at the counts."""

import time
import warnings

import keras
import numpy as np
from keras import ops

from keras_mtl.training.arrays import LET_PASS
from keras_mtl.training.freezing import Freezing
from keras_mtl.training.starving import EpochWeights


def with_callback(callbacks, callback):
    """Puts a callback before the others, so that checkpoints see what it did.

    Args:
        callbacks: `None`, a callback, a list, or a `CallbackList`.
        callback: The callback to add.

    Returns:
        What `fit` takes.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # One of an earlier `fit` gives its place up.
        callbacks.callbacks = [callback, *(one for one in callbacks.callbacks if type(one) is not type(callback))]
        callbacks._configure_async_dispatch(callbacks.callbacks)
        callback.set_model(callbacks.model)
        callback.set_params(callbacks.params)
        return callbacks
    if callbacks is None:
        callbacks = []
    return [callback, *(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks])]


class EndOfEpoch(keras.callbacks.Callback):
    """Rolls weighting state, tells of tasks without labels, numbers or weight, and sees layers frozen meanwhile."""

    def __init__(self):
        super().__init__()
        self._seen = self._weights = None
        self._told_of_weights = False
        self._looked = 0.0

    def on_train_begin(self, logs=None):
        self._freezing = Freezing(self.model)
        self._warned_of_validation = False
        self._told_of_weights = False

    def on_epoch_begin(self, epoch, logs=None):
        self._seen = self._weights = None

    def on_train_batch_begin(self, batch, logs=None):
        self._freezing.follow()
        # Steps that are not finite change nothing, so there is no hurry: a look now and then does not slow training.
        # Several workers read a count together, so they wait for the end of the epoch, not for a clock of their own.
        alone = getattr(self.model.distribute_strategy, "cluster_resolver", None) is None
        if alone and time.monotonic() - self._looked > _SECONDS:
            raise_faulty_inputs(self.model, "a training step")
            raise_nonfinite(self.model)
            self._looked = time.monotonic()

    def on_test_begin(self, logs=None):
        self._read()  # validation is about to reset the trackers
        raise_faulty_inputs(self.model, "a training step")

    def on_test_end(self, logs=None):
        if not self._warned_of_validation:
            self._warned_of_validation = warn_unlabelled(
                self.model, "in the validation data: its logs are NaN, and the total is that of the other tasks"
            )

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training:  # a callback such as `TerminateOnNaN` came first
            warn_nonfinite(self.model, epoch)
        else:
            raise_faulty_inputs(self.model, "a training step")
            raise_nonfinite(self.model)
            warn_nonfinite(self.model, epoch)
        nonfinite, _ = self.model.compiled_tasks.nonfinite_tracker.seen()
        self._read()
        for task, count in self._seen:
            if count == 0 and task not in self.model.compiled_tasks.left_out and not nonfinite[task]:
                warnings.warn(
                    f"Task '{task}' had no labelled example in epoch {epoch + 1}: it was not trained, and its losses "
                    "and metrics of this epoch are NaN.",
                    stacklevel=2,
                )
        if not self._told_of_weights:
            self._told_of_weights = self._weights.warn(self.model, epoch)
        self.model.compiled_tasks.weighting.end_epoch(logs)

    def _read(self):
        """Keeps, of the epoch's steps, each task's number of labelled examples and its weight."""
        if self._seen is None:
            compiled = self.model.compiled_tasks
            self._seen = [] if _of_own_step(self.model, "train_step") else _labelled(compiled)
            self._weights = EpochWeights(compiled, np.array([count for _, count in _labelled(compiled)]))


_SECONDS = 1.0


def _of_own_step(model, step):
    """Whether a subclass has a step of its own that tells the trackers nothing."""
    return model.overrides(step) and not any(count for _, count in _labelled(model.compiled_tasks))


def _labelled(compiled):
    """Pairs of task and the number of its labelled examples, as the trackers have it."""
    return list(zip(compiled.tasks, ops.convert_to_numpy(compiled.loss_tracker.counts.value), strict=True))


def warn_unlabelled(model, where):
    """Warns of tasks without a labelled example in an evaluation that has just ended.

    Args:
        model: A compiled `MultiTaskModel`.
        where: String. Ends the sentence.

    Returns:
        Boolean. Whether there were any.
    """
    compiled = model.compiled_tasks
    if _of_own_step(model, "test_step"):
        return False
    tasks = [task for task, count in _labelled(compiled) if count == 0 and task not in compiled.left_out]
    for task in tasks:
        warnings.warn(f"Task '{task}' had no labelled example {where}.", stacklevel=3)
    return bool(tasks)


def raise_faulty_inputs(model, where):
    """Raises if inputs had NaN or infinities, which `check_inputs` does not let pass.

    Args:
        model: A compiled `MultiTaskModel`.
        where: String. Where they were, for the message.

    Raises:
        ValueError: Saying which of the two it was.
    """
    compiled = model.compiled_tasks
    found = None if compiled.inputs_tracker is None else compiled.inputs_tracker.seen()
    if found is None:
        return
    compiled.inputs_tracker.reset_state()
    compiled.nonfinite_tracker.reset_state()
    raise ValueError(
        f"`x` should be finite. Received: {found} in the inputs of {where}, from which the model has learned nothing. "
        f"{LET_PASS}"
    )


def raise_nonfinite(model):
    """Raises if a step was not finite and `on_nonfinite` is `"raise"`.

    Args:
        model: A compiled `MultiTaskModel`.

    Raises:
        FloatingPointError: Naming the tasks.
    """
    compiled = model.compiled_tasks
    if compiled.on_nonfinite != "raise":
        return
    counts, skipped = compiled.nonfinite_tracker.seen()
    if not skipped:
        return
    tasks = [task for task, count in counts.items() if count]
    compiled.nonfinite_tracker.reset_state()
    what = f"the loss of {tasks}" if tasks else "the gradients or the weighting's state, from finite losses"
    raise FloatingPointError(
        f"The losses and gradients of all tasks should be finite. Received: NaN or infinity in {what}. The model is as "
        f"it was before that step. {_ADVICE} `compile(on_nonfinite='skip_task')` or `'skip_step'` trains on without "
        "such steps."
    )


_ADVICE = (
    "Look for NaN or infinity in the inputs, for NaN labels that `missing` does not name, or for a learning rate that "
    "is too high."
)


def warn_nonfinite(model, epoch):
    """Warns of the tasks and steps that an epoch left out.

    Args:
        model: A compiled `MultiTaskModel`.
        epoch: Integer. Counted from 0.
    """
    compiled = model.compiled_tasks
    counts, skipped = compiled.nonfinite_tracker.seen()
    left_out = "Steps left out for this task" if compiled.on_nonfinite == "skip_task" else "Steps left out"
    for task, count in counts.items():
        if count:
            warnings.warn(
                f"The loss or gradient of task '{task}' was NaN or infinite in epoch {epoch + 1}. {left_out}: "
                f"{count}. {_ADVICE}",
                stacklevel=3,
            )
    if skipped and not any(counts.values()):
        warnings.warn(
            f"Gradients, or the weighting's state, were NaN or infinite in epoch {epoch + 1}, although the losses were "
            f"finite. Steps left out: {skipped}. {_ADVICE}",
            stacklevel=3,
        )
