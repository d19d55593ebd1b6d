"""Training runs of candidates, each of which continues where it stopped, in this process or an earlier one."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._types import Callbacks, Tensor
from keras_mtl.analysis._runs import StepClock
from keras_mtl.analysis._traced_models import TracedModels
from keras_mtl.analysis.advice._problem import Candidate
from keras_mtl.analysis.advice._streams import Streams
from keras_mtl.analysis.advice._trial import Clock, Job, OutOfTimeError, Trial, seconds_of
from keras_mtl.analysis.advice._widths import parameters_of
from keras_mtl.callbacks.task_board import TaskBoard

if TYPE_CHECKING:
    from keras_mtl.analysis._store import RunStore
    from keras_mtl.analysis.advice._problem import Problem
    from keras_mtl.analysis.advice._watch import Watch, WatchColumns
    from keras_mtl.analysis.advice._workers import Workers
    from keras_mtl.models.multi_task_model import MultiTaskModel

FINAL_SEED = 100_003  # the first of the seeds of the last trainings, which chose nothing
_CHANCE_SEEDS = (0, FINAL_SEED)  # what the choice of examples makes of a difference is told from one seed
_CURVE = 10  # points
_FIELDS = {
    "values": list,
    "curves": dict,
    "resampled": list,
    "parameters": int,
    "step_ms": (int, float),
    "first_seconds": (int, float),
    "epoch_seconds": (int, float),
    "seconds": (int, float),
}


class Trials:
    """Trains candidates, and keeps what it has trained.

    Args:
        problem: `Problem`.
        store: `RunStore`.
        points: List of integers. At how many epochs candidates are compared;
            the last is a whole training. Each training is made of these parts,
            whatever the plan, so that its result does not depend on the time.
        deadline: Float. The time by `time.perf_counter` after which nothing
            is trained any more.
        workers: `Workers` with the same folder of runs, that train side by
            side. Defaults to `None`: one after the other, in this process.

    Attributes:
        spent: Float. Seconds of all trainings, of those that were read too:
            what a plan goes by, so that a call that goes on after a kill plans
            the same. Of trainings side by side, those from the first's
            beginning to the last's end.
        at_once: Integer. How many trainings go on at a time.
    """

    def __init__(
        self,
        problem: Problem,
        store: RunStore,
        points: Sequence[int],
        deadline: float,
        workers: Workers | None = None,
    ) -> None:
        self._problem, self._store, self._points, self.deadline = problem, store, points, deadline
        self._workers, self.at_once = workers, 1 if workers is None else workers.count
        self._streams, self._traced = Streams(problem), TracedModels(64)
        self._trials, self._states, self._last = {}, {}, {}
        self.spent = 0.0

    @property
    def runs_trained(self) -> int:
        """How many were made and kept."""
        return self._store.runs_trained

    def each(self, jobs: Sequence[Job], step: Callable[[str], None]) -> Iterator[Trial]:
        """Does jobs that do not depend on each other.

        Args:
            jobs: List of `Job`.
            step: Function of a string, called as each training begins.

        Yields:
            `Trial`, in the order of the jobs.

        Raises:
            OutOfTimeError: At the first that there was no time for.
        """
        answers = {} if self._workers is None else self._side_by_side(jobs, step)
        before, costs = self.spent, []
        for place, job in enumerate(jobs):
            if answers.get(place) == "late":
                raise OutOfTimeError
            if place not in answers:
                step(job.said)
            known = self.spent
            trial = self.do(job)
            costs.append(self.spent - known)
            self.spent = before + seconds_of(costs, self.at_once)
            yield trial

    def do(self, job: Job) -> Trial:
        """Does a job in this process, or reads what it came to."""
        if job.final:
            return self.finish(job.candidate, job.seed, job.epochs, job.board, job.as_code)
        return self.run(job.candidate, job.seed, job.epochs, watch=job.watch, check=job.check)

    def _side_by_side(self, jobs: Sequence[Job], step: Callable[[str], None]) -> dict[int, str]:
        """Has the workers do what is not there yet. Returns a dict from place to `"done"` or `"late"`."""
        places = [place for place, job in enumerate(jobs) if not self._is_there(job)]
        if not places:
            return {}

        def remaining() -> float:
            return self.deadline - time.perf_counter()

        self._workers.start(remaining())
        answers = self._workers.work([jobs[place] for place in places], remaining, step)
        for kind, kept in answers.values():
            self._store.runs_trained += kept
            self._store.runs_read -= kept * (kind == "done")  # they will be read here
        return {places[at]: kind for at, (kind, _) in answers.items()}

    def _is_there(self, job: Job) -> bool:
        before = None if job.final else self._trials.get((job.candidate.name, job.seed))
        if before is not None and (before.epochs >= job.epochs or before.failed):
            return True
        part = "final" if job.final else "search"
        return self._store.has(self._key(job.candidate, job.seed, job.epochs, part))

    def _key(self, candidate: Candidate, seed: int, epochs: int, part: str) -> str | None:
        return self._store.key(candidate=candidate.settings(), seed=seed, epochs=epochs, part=part)

    def run(
        self,
        candidate: Candidate,
        seed: int,
        epochs: int,
        watch: type[Watch] | type[WatchColumns] | None = None,
        check: Callable[[float, float | None], None] | None = None,
    ) -> Trial:
        """Trains a candidate up to a number of epochs, and validates it after some.

        Args:
            candidate: `Candidate`.
            seed: Integer. Of its initial weights and the order of its data.
            epochs: Integer. Epochs altogether.
            watch: Class of what watches a training, which is then in one part.
                Defaults to `None`.
            check: Function of the seconds of the first epoch and of a later
                one (`None` until there is one), which raises where there is no
                time. Defaults to `None`.

        Returns:
            `Trial`.

        Raises:
            OutOfTimeError: If the deadline came first.
        """
        for point in self._points if watch is None else ():
            if point < epochs:
                self.run(candidate, seed, point)
        before = self._trials.get((candidate.name, seed))
        if before is not None and (before.epochs >= epochs or before.failed):
            return before
        key = self._key(candidate, seed, epochs, "search")
        trial = self._read(key, candidate, seed, epochs)
        if trial is None:
            start = time.perf_counter()
            model, before = self._model(candidate, seed, before)
            watching = None if watch is None else watch(self._problem, epochs)
            callbacks = [] if watching is None else watching.callbacks
            trial = self._train(model, candidate, seed, epochs, before, callbacks, start, check)
            if watching is not None and not trial.failed:
                trial.watched = watching.content(trial.curves, model)
            self._keep(key, trial, model)
            self._states[candidate.name, seed] = _state(model)
            self._last[candidate.name] = model
            self._traced.keep(model)
        self.spent += trial.seconds - (before.seconds if before is not None else 0.0)
        self._trials[candidate.name, seed] = trial
        return trial

    def finish(
        self, candidate: Candidate, seed: int, epochs: int, board: Path | None = None, as_code: bool = False
    ) -> Trial:
        """Trains a candidate from scratch on all training data, and tests it once.

        Args:
            candidate: `Candidate`.
            seed: Integer.
            epochs: Integer.
            board: As `Job` has it. Defaults to `None`.
            as_code: Same. Defaults to `False`.

        Returns:
            `Trial`, with the test's values.
        """
        key = self._key(candidate, seed, epochs, "final")
        trial = self._read(key, candidate, seed, epochs)
        if trial is None:
            start = time.perf_counter()
            model, _ = self._model(candidate, seed, None)
            callbacks = [] if board is None else [_board(board, candidate)]
            trial = self._train(model, candidate, seed, epochs, None, callbacks, start, None, True, as_code)
            if not trial.failed:
                trial.values = [self._streams.evaluated(model, self._streams.test)]
                trial.resampled = self._streams.resampled(model, self._problem.test) if seed in _CHANCE_SEEDS else []
                trial.seconds = time.perf_counter() - start
            self._keep(key, trial, model)
            self._states[candidate.name, seed] = _state(model)
            self._last[candidate.name] = model
            self._traced.keep(model)
        self.spent += trial.seconds
        return trial

    def trained(self, candidate: Candidate, seed: int, epochs: int, part: str) -> MultiTaskModel:
        """The model of a training that is over.

        Args:
            candidate: `Candidate`.
            seed: Integer.
            epochs: Integer.
            part: `"search"` or `"final"`.

        Returns:
            A compiled `MultiTaskModel`.
        """
        model = self._seeded(seed, lambda: self._problem.build(candidate))
        state = self._states.get((candidate.name, seed))
        if state is not None:
            _set_state(model, state)
        elif self._load(model, candidate, seed, epochs, part) is None:
            raise RuntimeError(f"The weights of '{candidate.name}' in {str(self._store.directory)!r} are gone.")
        return model

    def forget(self, candidate: Candidate) -> None:
        """Lets go of the weights of a candidate that is out."""
        self._last.pop(candidate.name, None)
        for place in [place for place in self._states if place[0] == candidate.name]:
            del self._states[place]
        if self._workers is not None:
            self._workers.forget(candidate)

    @functools.cached_property
    def _validated(self) -> list[int]:
        """After which epochs there is a validation: where candidates are compared, and for a curve of ten points."""
        last = self._points[-1]
        return sorted({*self._points, *range(last, 0, -math.ceil(last / _CURVE))})

    def _read(self, key: str | None, candidate: Candidate, seed: int, epochs: int) -> Trial | None:
        run = self._store.load(key, _FIELDS, check=_check)
        if run is None:
            return None
        names = [field.name for field in dataclasses.fields(Trial) if field.name not in ("candidate", "seed", "epochs")]
        return Trial(candidate, seed, epochs, **{name: run[name] for name in names})

    def _keep(self, key: str | None, trial: Trial, model: MultiTaskModel) -> None:
        content = dataclasses.asdict(trial)
        content.pop("candidate")
        self._store.save(key, f"{trial.candidate.name}-seed{trial.seed}-{trial.epochs}epochs", content, network=model)

    def _seeded(self, seed: int, build: Callable[[], MultiTaskModel]) -> MultiTaskModel:
        keras.utils.set_random_seed(self._problem.global_seed(seed))
        return build()

    def _model(self, candidate: Candidate, seed: int, before: Trial | None) -> tuple[MultiTaskModel, Trial | None]:
        """A model of a candidate as an earlier part of its training left it, and that part if there is one."""
        state = self._states.get((candidate.name, seed))
        if before is not None and state is not None and self._last.get(candidate.name) is not None:
            _set_state(self._last[candidate.name], state)
            return self._last[candidate.name], before
        model = self._seeded(seed, lambda: self._traced.exchange(self._problem.build(candidate)))
        if before is None:
            return model, None
        if state is not None:
            _set_state(model, state)
        elif self._load(model, candidate, seed, before.epochs, "search") is None:
            return self._seeded(seed, lambda: self._problem.build(candidate)), None  # its weights are gone
        return model, before

    def _load(
        self, model: MultiTaskModel, candidate: Candidate, seed: int, epochs: int, part: str
    ) -> dict[str, Any] | None:
        key = self._key(candidate, seed, epochs, part)
        read = self._store.runs_read
        run = self._store.load(key, _FIELDS, network=model)
        self._store.runs_read = read  # it was counted when its values were read
        return run

    def _train(
        self,
        model: MultiTaskModel,
        candidate: Candidate,
        seed: int,
        epochs: int,
        before: Trial | None,
        callbacks: Callbacks,
        start: float,
        check: Callable[..., None] | None,
        final: bool = False,
        as_code: bool = False,
    ) -> Trial:
        steps, clock = StepClock(), Clock(start, self.deadline, check)
        first = 0 if before is None else before.epochs
        # The order of a part's data is its own, so that what goes on after a kill is what would have been.
        seed_of_part = self._problem.global_seed(seed) + 1_000_003 * first
        keras.utils.set_random_seed(seed_of_part)
        if as_code:
            arguments = dict(zip(("x", "y", "sample_weight"), self._problem.all_training, strict=False))
            arguments["batch_size"] = self._problem.batch_size
        else:
            batches = self._streams.all_training if final else self._streams.of_seed(seed)[0]
            arguments = {"x": batches.shuffled(), "steps_per_epoch": batches.steps, "shuffle": False}
        if not final:
            validation = self._streams.of_seed(seed)[1]
            arguments |= {"validation_data": validation.in_order(), "validation_steps": validation.steps}
            arguments |= {"validation_freq": self._validated}
        failed, history = "", {}
        try:
            history = model.fit(
                **arguments,
                epochs=epochs,
                initial_epoch=first,
                callbacks=[steps, *callbacks, clock],
                verbose=0,
            ).history
        except FloatingPointError as error:
            failed = str(error)
        if clock.late:
            raise OutOfTimeError
        curves = {name: [float(v) for v in of] for name, of in history.items() if np.ndim(of) == 1}
        # Curves by epoch have gaps where there was no validation.
        places = {epoch: i for i, epoch in enumerate(e for e in self._validated if first < e <= epochs)}
        values = [
            {name[4:]: of[places[epoch]] for name, of in curves.items() if name.startswith("val_") and epoch in places}
            for epoch in range(first + 1, epochs + 1)
        ]
        counted = [f"{task}_{metric}" for task, metric in self._problem.metrics.items()]
        unknown = any(
            not math.isfinite(each.get(log, math.nan))
            for each in (*filter(None, values), values[-1])
            for log in counted
        )
        if not final and unknown:
            failed = failed or "a loss or metric that counts is no number"
        whole = not final and epochs == self._points[-1] and not failed and seed in _CHANCE_SEEDS
        resampled = self._streams.resampled(model, self._streams.of_seed(seed)[2]) if whole else []
        return Trial(
            candidate,
            seed,
            epochs,
            [*(before.values if before is not None else ()), *values],
            {n: [*(before.curves.get(n, []) if before is not None else ()), *of] for n, of in curves.items()},
            resampled,
            parameters_of(model),
            steps.milliseconds(),
            clock.first if before is None else before.first_seconds,
            clock.later if clock.later is not None else clock.first,
            time.perf_counter() - start + (before.seconds if before is not None else 0.0),
            failed,
        )


def _board(folder: Path, candidate: Candidate) -> TaskBoard:
    return TaskBoard(folder / re.sub(r"[^\w.]+", "_", candidate.name), images_every=10)


def _check(run: Mapping[str, Any]) -> None:
    if not run.get("failed") and not run["values"]:
        raise ValueError("it has no values")


def _state(model: MultiTaskModel) -> list[Tensor]:
    return [keras.ops.convert_to_numpy(v.value) for v in (*model.variables, *model.optimizer.variables)]


def _set_state(model: MultiTaskModel, state: Mapping[str, Any]) -> None:
    for variable, value in zip((*model.variables, *model.optimizer.variables), state, strict=True):
        variable.assign(value)
