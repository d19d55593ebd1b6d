"""Successive halving over epochs, with the same seeds for all candidates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.analysis.advice._candidates import ALL, ALONE
from keras_mtl.analysis.advice._decide import standard_error, standing
from keras_mtl.analysis.advice._trial import Job, OutOfTimeError, seconds_of

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._decide import Standing
    from keras_mtl.analysis.advice._problem import Candidate, Problem
    from keras_mtl.analysis.advice._trial import Trial
    from keras_mtl.analysis.advice._trials import Trials

_OVERHEAD = 0.7  # seconds of a training besides its epochs
_LAST = 4  # candidates that are trained to the end, at most


@dataclasses.dataclass
class Rung:
    """Trainings to one number of epochs.

    Args:
        epochs: Integer.
        seeds: Integer.
        candidates: Integer. How many take part, at most.
    """

    epochs: int
    seeds: int
    candidates: int


@dataclasses.dataclass
class Plan:
    """What will be trained.

    Args:
        rungs: List of `Rung`.
        final_seeds: Integer. Seeds of the last trainings.
        search_seconds: Float. What the rungs are expected to take.
        final_seconds: Float. What the last trainings are expected to take.
    """

    rungs: list
    final_seeds: int
    search_seconds: float
    final_seconds: float

    @property
    def trainings(self) -> int:
        """Number of trainings, parts of one counted each."""
        return sum(rung.seeds * rung.candidates for rung in self.rungs) + 2 * self.final_seeds

    def __str__(self) -> str:
        rungs = ", then ".join(
            f"{rung.candidates} candidates for {rung.epochs} epochs with {rung.seeds} seed{'s' * (rung.seeds > 1)}"
            for rung in self.rungs
        )
        seconds = self.search_seconds + self.final_seconds
        fresh = f"{self.final_seeds} fresh seed{'s' * (self.final_seeds > 1)}"
        return f"{rungs}; the winner and single-task anew with {fresh}: about {seconds:.0f} s"


def rungs_of(epochs: int) -> list[int]:
    """At how many epochs candidates are compared: earlier than halfway says little of how they end."""
    return [epochs] if epochs < 4 else [math.ceil(epochs / 2), epochs]


def make_plan(count: int, epochs: int, seeds: int, seconds: float, trial: Trial, at_once: int = 1) -> Plan:
    """The most thorough plan that fits the time.

    Args:
        count: Integer. Number of candidates.
        epochs: Integer. Epochs of a whole training.
        seeds: Integer. The most seeds.
        seconds: Float. The time that is left.
        trial: `Trial` of the single-task columns, by whose cost all are
            reckoned: few candidates cost more.
        at_once: Integer. How many trainings go on at a time. Defaults to `1`.

    Returns:
        `Plan`.
    """
    points = rungs_of(epochs)
    plans = []
    for early in sorted({min(2, seeds), 1}, reverse=True):
        for late in range(seeds, 0, -1):
            for final in range(max(seeds, 2), 0, -1):
                for size in range(count, 1, -1):
                    plans.append(_plan(points, early, late, final, size, trial, at_once))
    fitting = [plan for plan in plans if plan.search_seconds + plan.final_seconds <= seconds]
    if fitting:
        # Some candidates come before a third seed, a third seed before all candidates, these before more seeds.
        return max(
            fitting,
            key=lambda p: (
                min(p.final_seeds, 2) + min(p.rungs[-1].seeds, 2),
                min(p.rungs[0].candidates, _LAST),
                min(p.final_seeds, 3) + min(p.rungs[-1].seeds, 3),
                p.rungs[0].candidates,
                p.rungs[-1].seeds + p.final_seeds,
                p.rungs[0].seeds,
            ),
        )
    return Plan([], 1, 0.0, _final(trial, epochs, 1, at_once))


def _plan(points: Sequence[int], early: int, late: int, final: int, size: int, trial: Trial, at_once: int) -> Plan:
    rungs = []
    for place, epochs in enumerate(points):
        last = place == len(points) - 1
        seeds = max(late, 1) if last else min(early, late)
        candidates = min(_LAST, size) if place else size
        rungs.append(Rung(epochs, seeds, candidates))
    trained, search = {}, math.ceil(size / at_once) * _tracing(trial)
    for rung in rungs:
        for seed in range(rung.seeds):  # the candidates of a round are trained side by side
            before = max(trained.get((candidate, seed), 0) for candidate in range(rung.candidates))
            parts = sum(before < point <= rung.epochs for point in points)  # going on costs what is added
            cost = (rung.epochs - before) * trial.epoch_seconds + parts * _OVERHEAD
            search += math.ceil(rung.candidates / at_once) * cost
            trained |= {(candidate, seed): rung.epochs for candidate in range(rung.candidates)}
    return Plan(rungs, final, search, _final(trial, points[-1], final, at_once))


def _tracing(trial: Trial) -> float:
    return max(0.0, trial.first_seconds - trial.epoch_seconds)


def _final(trial: Trial, epochs: int, seeds: int, at_once: int) -> float:
    each = epochs * trial.epoch_seconds + _OVERHEAD
    return math.ceil(2 * seeds / at_once) * each + (0.5 if at_once > 1 else 1.0) * _tracing(trial)


@dataclasses.dataclass(frozen=True)
class EnoughTime:
    """Raises where the time is not enough for two trainings and their test.

    Args:
        epochs: Integer. Of a training.
        seconds: Float. What there is.
        at_once: Integer. How many trainings go on at a time.
    """

    epochs: int
    seconds: float
    at_once: int

    def __call__(self, first: float, later: float | None) -> None:
        """Takes the seconds of the first epoch, with building and tracing, and of a later one."""
        if later is None and self.epochs > 1:
            return
        # Of the shared model and of single-task columns, twice.
        needed = (2 * first + 4 * self.epochs * (later or first)) / min(self.at_once, 2)
        if needed > self.seconds:
            raise ValueError(
                f"`minutes` should be enough for two models of {self.epochs} epochs and their test, here about "
                f"{math.ceil(needed / 6) / 10:g}. Received: minutes={self.seconds / 60:g}"
            )


def halve(
    problem: Problem,
    candidates: Sequence[Candidate],
    runs: dict[str, dict[int, Trial]],
    plan: Plan,
    trials: Trials,
    seconds: float,
    step: Callable[[str], None],
) -> None:
    """Trains candidates, of which fewer and fewer go on.

    Single-task columns always go on, since gains are relative to them, and so
    does the fully shared model, which is the simplest. Of the others, those go
    on first that no candidate of as few parameters is ahead of by more than a
    standard error: the decision takes the simplest that is good enough, and
    small models learn slower.

    Args:
        problem: `Problem`.
        candidates: List of `Candidate`.
        runs: Dict from the name of each candidate that was trained to a dict
            from seed to `Trial`, to which new ones are added.
        plan: `Plan`.
        trials: `Trials`.
        seconds: Float. What may be spent, by `trials.spent`.
        step: Function of a string, called before each training.
    """
    places = {}
    alive = list(candidates)
    try:
        for place, rung in enumerate(plan.rungs):
            alive = _kept(alive, places, rung.candidates, problem.held_out)
            for seed in range(rung.seeds):
                if seed and _expected(alive, runs, rung.epochs, seed, trials.at_once) + trials.spent > seconds:
                    break
                said = f"seed {seed}, to epoch {rung.epochs} ({place + 1} of {len(plan.rungs)})"
                jobs = [Job(f"{c.name}, {said}", c, seed, rung.epochs) for c in alive]
                # A round counts as a whole, so that seeds stay paired.
                for trial in list(trials.each(jobs, step)):
                    runs.setdefault(trial.candidate.name, {})[seed] = trial
            places = {c.name: _standing(problem, c, runs, rung.epochs) for c in alive if c.name in runs}
            for candidate in candidates:
                if candidate not in alive:
                    trials.forget(candidate)
    except OutOfTimeError:
        pass


def standings_of(
    problem: Problem, candidates: Sequence[Candidate], runs: Mapping[str, Mapping[int, Trial]]
) -> list[Standing]:
    """List of `Standing`, of those that came furthest first; of those that were never trained there is none."""
    found = []
    for candidate in candidates:
        if candidate.name in runs:
            epochs = max(trial.epochs for trial in runs[candidate.name].values())
            found.append(_standing(problem, candidate, runs, epochs))
    return sorted(found, key=lambda each: (-each.epochs, -each.mean))


def _standing(problem: Problem, candidate: Candidate, runs: Mapping[str, Mapping[int, Trial]], epochs: int) -> Standing:
    own = [t for t in runs[candidate.name].values() if t.epochs >= epochs or t.failed]
    seeds = {trial.seed for trial in own}
    alone = [t for seed, t in runs[ALONE].items() if seed in seeds and t.epochs >= epochs and not t.failed]
    return dataclasses.replace(standing(problem, own, alone, epochs), candidate=candidate)


def _kept(alive: Sequence[Candidate], places: Mapping[str, Standing], count: int, held_out: bool) -> list[Candidate]:
    if not places or count >= len(alive):
        return [c for c in alive if c.name in (ALONE, ALL)] + [c for c in alive if c.name not in (ALONE, ALL)][
            : count - 2
        ]
    error = standard_error([each for each in places.values() if each.delta_m], held_out)

    def is_beaten(own: Standing) -> bool:
        return any(each.parameters <= own.parameters and each.mean > own.mean + error for each in places.values())

    ranked = sorted(alive, key=lambda c: (c.name not in (ALONE, ALL), is_beaten(places[c.name]), -places[c.name].mean))
    kept = [c for c in ranked[:count] if c.name in (ALONE, ALL) or places[c.name].delta_m]
    return [c for c in alive if c in kept]


def _expected(
    alive: Sequence[Candidate], runs: Mapping[str, Mapping[int, Trial]], epochs: int, seed: int, at_once: int
) -> float:
    """Seconds of one more seed."""
    known = [trial for candidate in alive for trial in runs.get(candidate.name, {}).values()]
    each = float(np.mean([trial.epoch_seconds for trial in known])) if known else 0.0
    done = [runs[c.name][seed].epochs if seed in runs.get(c.name, {}) else 0 for c in alive]
    return seconds_of([(epochs - there) * each + _OVERHEAD for there in done], at_once)
