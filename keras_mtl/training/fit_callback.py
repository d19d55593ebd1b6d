"""The callback that `fit` adds, between the steps and the user's callbacks."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import as_list
from keras_mtl._keras_private import layers_of
from keras_mtl._types import Callbacks
from keras_mtl.training.faults import (
    labelled,
    raise_faults,
    warn_nonfinite,
    warn_starved,
    warn_unlabelled,
)

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

_SECONDS = 1.0


def with_callbacks(
    added: Sequence[keras.callbacks.Callback], callbacks: Callbacks | None
) -> list[keras.callbacks.Callback]:
    """Puts callbacks before the user's, so that checkpoints see what they did.

    Args:
        added: List of callbacks, the first of them last. Those that the user
            has given stay where they are.
        callbacks: `None`, a callback, a list, or a `CallbackList`.

    Returns:
        What `fit` takes.
    """
    given = keras.tree.flatten(getattr(callbacks, "callbacks", callbacks))
    new = [callback for callback in reversed(added) if callback not in given]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # A list in a list: it stays the user's, for the next `fit`. Its callbacks have their model already.
        both = keras.callbacks.CallbackList([*new, callbacks])
        keras.callbacks.Callback.set_model(both, callbacks.model)
        keras.callbacks.Callback.set_params(both, callbacks.params)
        for callback in new:
            callback.set_model(callbacks.model)
            callback.set_params(callbacks.params)
        return both
    if callbacks is None:
        callbacks = []
    return [*new, *as_list(callbacks)]


class FitCallback(keras.callbacks.Callback):
    """Rolls weighting state, tells of tasks without labels, numbers or weight, and sees layers frozen meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._labelled = None
        self._told_of_weights = self._told_of_validation = False
        self._looked = 0.0

    def set_model(self, model: MultiTaskModel) -> None:
        super().set_model(model)
        self._trained = model  # on JAX `self.model` hands all state back, which is not for each step

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        from keras_mtl.training.backends import core  # with the first training: the import of a backend takes its time

        self._alone = not core.several_workers(self.model)
        self._freezing = Freezing(self.model)
        self._told_of_weights = self._told_of_validation = False
        self._looked = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._labelled = None

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._freezing.follow()
        self._trained.compiled_tasks.static_weights.follow(self._trained)
        # Steps that are not finite change nothing, so there is no hurry: a look now and then does not slow training.
        # Several workers read a count together, so they wait for the end of the epoch, not for a clock of their own.
        if self._alone and time.monotonic() - self._looked > _SECONDS:
            raise_faults(self.model, "a training step")
            self._looked = time.monotonic()

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._read()  # validation is about to reset the trackers
        if not self.model.stop_training:
            raise_faults(self.model, "a training step")

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._told_of_validation:
            self._told_of_validation = warn_unlabelled(
                self.model, "in the validation data: its logs are NaN, and the total is that of the other tasks"
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        compiled = self.model.compiled_tasks
        seen = compiled.faults.seen()
        if not self.model.stop_training:  # else a callback such as `TerminateOnNaN` came first
            raise_faults(self.model, "a training step", seen, variables=True)
        warn_nonfinite(self.model, seen, epoch)
        logs = {} if logs is None else logs
        if any(math.isnan(logs.get(f"{task}_loss", math.nan)) for task in compiled.tasks):
            self._warn_of_unlabelled(epoch, seen.tasks)
        if not self._told_of_weights:
            self._told_of_weights = warn_starved(compiled, logs, epoch)
        compiled.weighting.end_epoch(logs)

    def _warn_of_unlabelled(self, epoch: int, nonfinite: Mapping[str, int]) -> None:
        self._read()
        for task, count in self._labelled.items():  # type: ignore[attr-defined]
            if count == 0 and task not in self.model.compiled_tasks.left_out and not nonfinite[task]:
                warnings.warn(
                    f"Task '{task}' had no labelled example in epoch {epoch + 1}: it was not trained, and its losses "
                    "and metrics of this epoch are NaN.",
                    stacklevel=3,
                )

    def _read(self) -> None:
        """Keeps the number of each task's labelled examples in the epoch's steps."""
        if self._labelled is None:
            self._labelled = labelled(self.model, "train_step")


class Freezing:
    """Notices when what is trainable changes, and has the step made anew.

    Keras reads `trainable` when it traces the training step. A layer that a
    callback freezes in the middle of `fit` would train on, without a word.

    Args:
        model: A compiled `MultiTaskModel`.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self._model = model
        self._parts = [*layers_of(model), *model.variables]
        self._flags = self._read()

    def _read(self) -> list[bool]:
        return [part.trainable for part in self._parts]

    def _set(self, flags: Sequence[bool]) -> None:
        for part, flag in zip(self._parts, flags, strict=True):
            part.trainable = flag

    def follow(self) -> None:
        """Makes the step anew if a layer or variable was frozen or released.

        Raises:
            ValueError: If a weighting needs shared trainable variables and
                there are none any more.
        """
        flags = self._read()
        if flags != self._flags:
            from keras_mtl.training.backends import core

            if not core.READS_VARIABLES:  # what is on its way is sorted by what was trainable
                self._set(self._flags)
                core.synchronize(self._model)
                self._set(flags)
            self._flags = flags
            self._model.make_train_function(force=True)
