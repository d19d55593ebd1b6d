"""Where a mixture is in its data, so that training can go on there."""

import json
import os
import shutil

import keras
import tensorflow as tf


class Position(tf.Module):
    """The stream of a mixture and the state of its draws, as one trackable.

    Args:
        chooser: `Chooser`, or `None`.
    """

    def __init__(self, chooser):
        super().__init__(name="position")
        self.draws = _Draws(chooser)
        self.stream = None  # the iterator


class _Draws(tf.train.experimental.PythonState):
    """The state of a chooser, as text in a checkpoint."""

    def __init__(self, chooser):
        super().__init__()
        self._chooser = chooser

    def serialize(self):
        return json.dumps(None if self._chooser is None else self._chooser.get_state())

    def deserialize(self, string_value):
        state = json.loads(string_value)
        if self._chooser is not None and state is not None:
            self._chooser.set_state(state)


class BackupPosition(keras.callbacks.Callback):
    """Keeps a mixture's position beside `keras.callbacks.BackupAndRestore`.

    It writes the position at the end of every epoch, goes on from it when
    training begins again, and removes it when training ends. Put it before
    `BackupAndRestore(...)` in the list of callbacks, so that a process that is
    killed in between repeats an epoch rather than skips its data.

    Args:
        mixture: What `keras_mtl.data.mix` returned.
        backup_dir: Path of a directory for this alone.

    Example:

    >>> import tensorflow as tf
    >>> examples = tf.data.Dataset.from_tensor_slices((np.ones((8, 2)), np.ones((8, 1))))
    >>> mixture = keras_mtl.data.mix({"a": examples, "b": examples}, batch_size=4)
    >>> callbacks = [
    ...     keras_mtl.data.BackupPosition(mixture, "backup/data"),
    ...     keras.callbacks.BackupAndRestore("backup/model"),
    ... ]
    """

    def __init__(self, mixture, backup_dir):
        super().__init__()
        self._mixture = mixture
        self.backup_dir = str(backup_dir)

    @property
    def _path(self):
        return os.path.join(self.backup_dir, "position")

    def on_train_begin(self, logs=None):
        os.makedirs(self.backup_dir, exist_ok=True)
        if os.path.exists(f"{self._path}.index"):
            self._mixture.restore_position(self._path)

    def on_epoch_end(self, epoch, logs=None):
        # In one piece or not at all: a half-written file must not be found later.
        self._mixture.save_position(f"{self._path}-new")
        for part in (".data-00000-of-00001", ".index"):
            os.replace(f"{self._path}-new{part}", f"{self._path}{part}")

    def on_train_end(self, logs=None):
        shutil.rmtree(self.backup_dir, ignore_errors=True)
