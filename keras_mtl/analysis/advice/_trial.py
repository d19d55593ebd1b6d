"""A training of a candidate: as it is asked for, and what it came to."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Candidate
    from keras_mtl.analysis.advice._watch import Watch, WatchColumns


_TIMED = 5  # steps by which the time of an epoch is told


class OutOfTimeError(Exception):
    """There is no time left for a training."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A training that is to be there.

    Args:
        said: String. What progress says of it.
        candidate: `Candidate`.
        seed: Integer. Of its initial weights and the order of its data.
        epochs: Integer. Epochs altogether.
        final: Boolean. Whether it is a last one: from scratch on all training
            data, and tested. Defaults to `False`.
        watch: `Watch` or `WatchColumns`, the class, of a training in one part.
            Defaults to `None`.
        check: Function of the seconds of the first epoch and of a later one
            (`None` until there is one), which raises where there is no time.
            Defaults to `None`.
        board: Path of a folder into which `TaskBoard` writes a last training.
            Defaults to `None`.
        as_code: Boolean. Whether a last training is done as the code that an
            advice gives does it, which takes longer: on the arrays. Defaults
            to `False`.
    """

    said: str
    candidate: Candidate
    seed: int
    epochs: int
    final: bool = False
    watch: type[Watch] | type[WatchColumns] | None = None
    check: Callable[[float, float | None], None] | None = None
    board: Path | None = None
    as_code: bool = False


@dataclasses.dataclass
class Trial:
    """What a training came to.

    Args:
        candidate: `Candidate`.
        seed: Integer.
        epochs: Integer. How many were trained.
        values: List of dicts from log to number, one for each epoch, on the
            examples that it was evaluated on; empty where it was not.
        curves: Dict from log of the training to a list by epoch.
        resampled: List of dicts from log to number, on examples drawn with
            replacement, the same ones for all candidates.
        parameters: Integer.
        step_ms: Float.
        first_seconds: Float. To build and trace the model.
        epoch_seconds: Float. An epoch, with its evaluation.
        seconds: Float. All of it.
        failed: String. Why it has no values; empty where it has some.
        watched: What the monitors saw, or `None`.
    """

    candidate: Candidate
    seed: int
    epochs: int
    values: list
    curves: dict
    resampled: list
    parameters: int
    step_ms: float
    first_seconds: float
    epoch_seconds: float
    seconds: float
    failed: str = ""
    watched: dict[str, Any] | None = None


class Clock(keras.callbacks.Callback):
    """Seconds of the first epoch, with building and tracing, and of a later one; ends what is late.

    The first validation, which is traced, counts with the first epoch.

    Args:
        start: Float. When the training began, by `time.perf_counter`.
        deadline: Float. When it has to end.
        check: As `Job` has it.
    """

    def __init__(self, start: float, deadline: float, check: Callable[..., None] | None) -> None:
        super().__init__()
        self._last, self._deadline, self._check = start, deadline, check
        self.first, self.later, self.late = 0.0, None, False
        self._all, self._steps, self._tests, self._tested = [], [], [], False

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        now = time.perf_counter()
        if self._check is not None and len(self._steps) < _TIMED:
            self._steps.append(now - self._last - sum(self._steps))
            if len(self._steps) == _TIMED and not self._all:  # before a whole epoch is spent on what cannot be done
                step = float(np.median(self._steps[1:])) / self.model.steps_per_execution
                self._check(self._steps[0], step * self.params["steps"])
        elif now > self._deadline:
            self.late = self.model.stop_training = True

    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._tests.append(-time.perf_counter())

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._tests[-1] += time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        now = time.perf_counter()
        self._all.append(now - self._last)
        self._last = now
        if self._tests and not self._tested:
            self._tested = True
            self._all[-1] -= self._tests[0]
            self._all[0] += self._tests[0]
        self.first = self._all[0]
        self.later = float(np.median(self._all[1:])) if len(self._all) > 1 else None
        if self._check is not None:
            self._check(self.first, self.later)


def seconds_of(trainings: Sequence[float], at_once: int) -> float:
    """How long trainings take, some at once: each begins as soon as one before it is over.

    Args:
        trainings: List of the seconds of each, in order.
        at_once: Integer.
    """
    ends = [0.0] * at_once
    for seconds in trainings:
        ends[ends.index(min(ends))] += seconds
    return max(ends)
