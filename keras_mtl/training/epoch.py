"""What happens at the end of an epoch: weighting state, and a look at the counts."""

import warnings

import keras
import numpy as np
from keras import ops


def with_callback(callbacks, callback):
    """Puts a callback before the others, so that checkpoints see what it did.

    Args:
        callbacks: `None`, a callback, a list, or a `CallbackList`.
        callback: The callback to add.

    Returns:
        What `fit` takes.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(callback)
        return callbacks
    if callbacks is None:
        callbacks = []
    return [callback, *(callbacks if isinstance(callbacks, (list, tuple)) else [callbacks])]


class EndOfEpoch(keras.callbacks.Callback):
    """Rolls weighting state and warns of tasks that had no labels or no number."""

    def __init__(self):
        super().__init__()
        self._seen = ()

    def on_epoch_begin(self, epoch, logs=None):
        self._seen = ()

    def on_test_begin(self, logs=None):
        self._seen = self._seen or self._read()  # validation is about to reset the trackers

    def on_epoch_end(self, epoch, logs=None):
        for task, count, mean in self._seen or self._read():
            if count == 0 and task not in self.model.compiled_tasks.left_out:
                warnings.warn(
                    f"Task '{task}' had no labelled example in epoch {epoch + 1}: it was not trained, and its logs of "
                    "this epoch are 0.",
                    stacklevel=2,
                )
            elif np.isnan(mean):
                warnings.warn(
                    f"The loss of task '{task}' became NaN in epoch {epoch + 1}. Look for NaN in the inputs, for NaN "
                    "labels that `missing` does not name, or for a learning rate that is too high.",
                    stacklevel=2,
                )
        self.model.compiled_tasks.weighting.end_epoch(logs)

    def _read(self):
        """Task, number of labelled examples and mean loss, for each task."""
        compiled = self.model.compiled_tasks
        counts = ops.convert_to_numpy(compiled.loss_tracker.counts.value)
        means = ops.convert_to_numpy(compiled.loss_tracker.means())
        return list(zip(compiled.tasks, counts, means, strict=True))
