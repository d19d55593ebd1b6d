"""A training of a candidate: as it is asked for, and what it came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Candidate
    from keras_mtl.analysis.advice._watch import Watch, WatchColumns


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
