"""Checkpoints of the position in a mixture, so that training can be resumed."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import keras
import tensorflow as tf

from keras_mtl._files import sync_files, whole_file, writable_folder

if TYPE_CHECKING:
    from keras_mtl.data._chooser import Chooser
    from keras_mtl.data.mixture import Mixture


class Position(tf.Module):
    """The stream of a mixture and the state of its draws, as one trackable.

    Args:
        chooser: `Chooser`, or `None`.
        about: Dict of strings: what has to be alike where the position is
            restored.
    """

    def __init__(self, chooser: Chooser | None, about: Mapping[str, str]) -> None:
        super().__init__(name="position")
        self.draws = _Draws(chooser, about)
        self.stream = None  # the iterator


class _Draws(tf.train.experimental.PythonState):
    """The state of a chooser, as text in a checkpoint."""

    def __init__(self, chooser: Chooser | None, about: Mapping[str, str]) -> None:
        super().__init__()
        self._chooser = chooser
        self._about = about

    def serialize(self) -> str:
        state = None if self._chooser is None else self._chooser.get_state()
        return json.dumps({"mixture": self._about, "draws": state})

    def deserialize(self, string_value: str) -> None:
        saved = json.loads(string_value)
        self.check(saved["mixture"])
        if self._chooser is not None:
            self._chooser.set_state(saved["draws"])

    def check(self, saved: Mapping[str, Any]) -> None:
        """Raises where a position is another mixture's."""
        for what in {**self._about, **saved}:
            here, there = self._about.get(what, "none"), saved.get(what, "none")
            if here != there:
                raise ValueError(
                    f"The position should be one of this mixture. Received: one of a mixture that differs in {what}: "
                    f"{there} there, {here} here"
                )


def read_position(position: Position, path: str | os.PathLike) -> None:
    """Puts a position to what a file holds, once that is known to be of the same mixture.

    Args:
        position: `Position`.
        path: String. Prefix of the files.
    """
    try:
        reader = tf.train.load_checkpoint(path)
        saved = json.loads(reader.get_tensor("position/draws/.ATTRIBUTES/py_state"))
        about = saved["mixture"]
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`path` should be where `save_position` has written, and whole. Received: path={path!r} "
            f"({str(error).splitlines()[0]})"
        ) from error
    position.draws.check(about)
    try:
        tf.train.Checkpoint(position=position).read(path).assert_consumed()
    except (tf.errors.OpError, AssertionError) as error:
        raise ValueError(
            f"`path` should be of a position of this mixture, under as many replicas. Received: path={path!r} "
            f"({str(error).splitlines()[0]})"
        ) from error


class BackupPosition(keras.callbacks.Callback):
    """Backs up a training on a mixture: where it is in the data, and the model, as one state.

    `keras.callbacks.BackupAndRestore` knows the model alone; its restored
    training would begin the data anew. This one keeps both after every epoch,
    goes on from them when training begins again, and removes them when it
    ends. A process that is killed, at any moment, ends with the weights of one
    that was not, as far as Keras restores what they depend on.

    It takes the place of `BackupAndRestore`. Where that one is in the list too,
    before or after it, both go on from an epoch that both have; but what that
    one writes and removes in several steps, a kill can still find half done.
    Callbacks that change the model at the end of an epoch come before it.

    Args:
        mixture: What `keras_mtl.data.mix` returned.
        backup_dir: Path of a directory for this alone. It holds the model's
            weights and the buffers of `shuffle`, at the end of an epoch twice.

    Raises:
        ValueError: If `mixture` is none, or has no position to save; as
            training begins, if the directory cannot be written to, or what is
            there is another mixture's or damaged.

    Example:

    >>> import tensorflow as tf
    >>> examples = tf.data.Dataset.from_tensor_slices((np.ones((8, 2)), np.ones((8, 1))))
    >>> mixture = keras_mtl.data.mix({"a": examples, "b": examples}, batch_size=4)
    >>> callbacks = [keras_mtl.data.BackupPosition(mixture, "backup")]
    """

    def __init__(self, mixture: Mixture, backup_dir: str | os.PathLike) -> None:
        super().__init__()
        if not hasattr(mixture, "save_position"):
            raise ValueError(f"`mixture` should be what `keras_mtl.data.mix` returned. Received: mixture={mixture!r}")
        mixture.check_position()
        self._mixture = mixture
        self.backup_dir = str(backup_dir)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self._mixture, self.backup_dir)  # for another training on the same data

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._folder = writable_folder(self.backup_dir, "backup_dir")
        self._states = self._read()
        self._began, self._restored = False, None
        if self._states:
            self._restore(max(self._states))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._began:
            return
        self._began = True
        if not self._states:
            # Says at once what cannot be saved, and is what to go on from until the first epoch has ended.
            self._save(epoch)
        elif epoch not in self._states:
            raise ValueError(
                f"`backup_dir` should hold the epoch with which training begins, {epoch}. Received: "
                f"backup_dir={self.backup_dir!r} with epochs {sorted(self._states)}. Remove it, and what "
                "`BackupAndRestore` has kept, to begin anew"
            )
        elif self._restored != (epoch, self._iterations()):
            self._restore(epoch)  # `BackupAndRestore`, which comes after, has been at another one

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._save(epoch + 1)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._record.unlink(missing_ok=True)  # first, and at once: what is left then counts for nothing
        shutil.rmtree(self.backup_dir, ignore_errors=True)

    @property
    def _record(self) -> Path:
        return self._folder / "states.json"

    def _read(self) -> dict[int, str]:
        """Folders of the states that are there whole, by the epoch with which they go on."""
        try:
            states = json.loads(self._record.read_bytes())
            return {int(epoch): str(name) for epoch, name in states.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"`backup_dir` should hold what `BackupPosition` has written. Received: {str(self._record)!r}, which "
                f"is damaged ({error}). Remove the folder to begin anew"
            ) from error

    def _save(self, epoch: int) -> None:
        name = f"epoch-{epoch}-{os.urandom(8).hex()}"
        state = self._folder / name
        state.mkdir()
        try:
            self._mixture.save_position(state / "position")
            self._of_model(state).on_epoch_end(epoch - 1)
            sync_files(state)
            # Two, since `BackupAndRestore` is an epoch behind until it has been called.
            before = [e for e in self._states if e < epoch]
            states = {max(before): self._states[max(before)], epoch: name} if before else {epoch: name}
            with whole_file(self._record) as part:
                part.write_text(json.dumps(states))
        except BaseException:
            shutil.rmtree(state, ignore_errors=True)
            raise
        self._states = states
        for other in self._folder.glob("epoch-*"):
            if other.name not in states.values():
                shutil.rmtree(other, ignore_errors=True)

    def _restore(self, epoch: int) -> None:
        state = self._folder / self._states[epoch]
        self._mixture.restore_position(state / "position")
        self._of_model(state).on_train_begin()
        self._restored = epoch, self._iterations()

    def _of_model(self, state: Path) -> keras.callbacks.BackupAndRestore:
        """Keras' own backup, in the folder of a state."""
        backup = keras.callbacks.BackupAndRestore(str(pathlib.Path(state) / "model"))
        backup.set_model(self.model)
        return backup

    def _iterations(self) -> int:
        return int(self.model.optimizer.iterations)
