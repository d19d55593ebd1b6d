"""The decision of `advise`: which candidate to take, and which differences are significant."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.analysis._statistics import confidence_interval, mean_and_spread
from keras_mtl.analysis.advice._candidates import ALL, ALONE
from keras_mtl.analysis.advice._problem import Candidate

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem
    from keras_mtl.analysis.advice._trials import Trial

_ALIKE = 1.1  # numbers of parameters that differ by less are alike


@dataclasses.dataclass
class Standing:
    """How a candidate stands after its last training.

    Args:
        candidate: `Candidate`.
        epochs: Integer. To how many epochs it came.
        seeds: List of the seeds of those trainings.
        delta_m: List of numbers, in percent over the single-task columns at
            the same epochs, one for each seed. Empty where it failed.
        gains: Dict from task to its mean gain.
        resampled: List of delta_m on examples drawn with replacement.
        parameters: Integer.
        step_ms: Float.
        seconds: Float. All of its trainings.
        outcome: String.
    """

    candidate: Candidate
    epochs: int
    seeds: list
    delta_m: list
    gains: dict
    resampled: list
    parameters: int
    step_ms: float
    seconds: float
    outcome: str = ""

    @property
    def mean(self) -> float:
        """Mean delta_m; minus infinity where it failed."""
        return float(np.mean(self.delta_m)) if self.delta_m else -math.inf


def standing(problem: Problem, trials: Sequence[Trial], baselines: Sequence[Trial], epochs: int) -> Standing:
    """The standing of a candidate.

    Args:
        problem: `Problem`.
        trials: List of its `Trial`, one for each seed.
        baselines: List of the trials of single-task columns, with the same
            number of epochs at least.
        epochs: Integer. After how many epochs they are compared.

    Returns:
        `Standing`.
    """
    first = trials[0]
    failed = next((trial.failed for trial in trials if trial.failed), "")
    delta, gains, resampled = [], {}, []
    if failed or not baselines:
        failed = f"failed: {failed}"
    else:
        single = mean_values([trial.values[epochs - 1] for trial in baselines])
        scores = [problem.score(trial.values[epochs - 1], single) for trial in trials]
        delta = [problem.gain(score) for score in scores]
        gains = {task: float(np.mean([score[task] for score in scores])) for task in problem.metrics}
        if all(trial.epochs == epochs for trial in trials):
            resampled = resampled_scores(problem, trials, single)
    return Standing(
        first.candidate,
        epochs,
        [trial.seed for trial in trials],
        delta,
        gains,
        resampled,
        first.parameters,
        float(np.mean([trial.step_ms for trial in trials])),
        sum(trial.seconds for trial in trials),
        failed,
    )


def resampled_scores(
    problem: Problem, trials: Sequence[Trial], single: Mapping[str, float], task: str | None = None
) -> list[float]:
    """delta_m, or the gain of a task, on each resample, as means over the trials that have some."""
    rows = []
    for trial in trials:
        scores = [problem.score(values, single) for values in trial.resampled]
        if scores:
            rows.append([score[task] if task else problem.gain(score) for score in scores])
    return [float(value) for value in np.mean(rows, axis=0)] if rows else []


def mean_values(dicts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of what several dicts from log to number have in common."""
    return {name: float(np.mean([each[name] for each in dicts])) for name in dicts[0] if all(name in d for d in dicts)}


def example_variance(scores: Sequence[float], others: Sequence[float]) -> float:
    """Variance of a difference that comes from the choice of the examples: of paired resamples, 0 without any."""
    if not scores or len(scores) != len(others):
        return 0.0
    return float(np.var(np.subtract(scores, others), ddof=1))


def standard_error(standings: Sequence[Standing], held_out: bool) -> float:
    """That of the difference of a candidate to the best over seeds; 0 with one seed.

    Where each seed has validation examples of its own, differences are paired
    by seed. It is of the median of the variances, so that no candidate gains by
    being unsteady.

    Args:
        standings: List of `Standing` with gains.
        held_out: Boolean. Whether each seed has validation examples of its own.
    """
    best = max(standings, key=lambda each: each.mean)
    seeds = min(len(each.delta_m) for each in standings)
    if held_out and len(standings) > 1:
        gains = [np.subtract(each.delta_m[:seeds], best.delta_m[:seeds]) for each in standings if each is not best]
        variances = [mean_and_spread(gain)[1] ** 2 for gain in gains]
    else:
        variances = [2 * mean_and_spread(each.delta_m)[1] ** 2 for each in standings]
    return math.sqrt(np.median(variances) / seeds)


def decide(standings: Sequence[Standing], held_out: bool = False) -> tuple[Standing, Standing, dict[str, float]]:
    """The simplest candidate within one standard error of the best.

    The standard error is that of the difference over seeds, and where all of
    them have the same validation examples and these are few, of what their
    choice makes of it.

    Args:
        standings: List of `Standing` that came to the end.
        held_out: Boolean. Whether each seed has validation examples of its own.
            Defaults to `False`.

    Returns:
        Tuple of the chosen `Standing`, the best one, and a dict from name to
        the standard error of its difference to the best.
    """
    standings = [each for each in standings if each.delta_m]
    best = max(standings, key=lambda each: each.mean)
    errors, of_seeds = {}, standard_error(standings, held_out)
    for each in standings:
        seen = held_out and len(each.delta_m) > 1  # what the choice of examples makes of it is in that over seeds
        variance = of_seeds**2 + (0.0 if seen else example_variance(best.resampled, each.resampled))
        errors[each.candidate.name] = 0.0 if each is best else math.sqrt(variance)
    close = [each for each in standings if best.mean - each.mean <= errors[each.candidate.name]]
    fewest = min(each.parameters for each in close)
    small = [each for each in close if each.parameters <= _ALIKE * fewest]
    plain = ("hard_sharing", "branched_sharing")  # others mix features, which is more to keep
    chosen = min(
        small, key=lambda each: (each.candidate.weighting != "equal", each.candidate.builder not in plain, -each.mean)
    )
    for each in standings:
        if each is chosen:
            each.outcome = "chosen" if each is best else "chosen: the simplest within one standard error of the best"
        elif each is best:
            each.outcome = "the best on validation, not significantly different from the chosen one"
        elif each in close:
            each.outcome = "not significantly different from the best"
        else:
            behind, error = best.mean - each.mean, errors[each.candidate.name]
            each.outcome = (
                f"{behind:.2g} points behind the best ({behind / error:.1f} standard errors)"
                if error
                else (f"{behind:.2g} points behind the best")
            )
    return chosen, best, errors


@dataclasses.dataclass
class Outcome:
    """What the test says of the chosen model beside another one.

    Args:
        delta_m: Float. Mean difference in percent.
        interval: Tuple `(low, high)` of 95 %, or `None`.
        gains: Dict from task to tuple `(mean, low, high)`, low and high
            shared out over the tasks (Bonferroni), `None` with one seed.
        seeds: Integer.
        examples: Boolean. Whether the choice of test examples is in it.
        by_seed: List of delta_m, one for each seed.
        seed_variance: Float. Of the mean over seeds.
        example_variance: Float.
    """

    delta_m: float
    interval: tuple[float, float] | None
    gains: dict
    seeds: int
    examples: bool
    by_seed: list
    seed_variance: float
    example_variance: float


def outcome_of(problem: Problem, trials: Sequence[Trial], others: Sequence[Trial]) -> Outcome:
    """Compares the tests of two candidates.

    Args:
        problem: `Problem`.
        trials: List of `Trial` of the one.
        others: List of those of the other, relative to which gains are.

    Returns:
        `Outcome`.
    """
    single = mean_values([trial.values[-1] for trial in others])
    ours, theirs = ([problem.score(t.values[-1], single) for t in each] for each in (trials, others))

    def compared(
        pick: Callable[..., Any], level: float, task: str | None = None
    ) -> tuple[float, tuple[float, float] | None, list[float], list[float], float]:
        a, b = [pick(score) for score in ours], [pick(score) for score in theirs]
        chance = example_variance(
            resampled_scores(problem, trials, single, task), resampled_scores(problem, others, single, task)
        )
        mean = float(np.mean(a) - np.mean(b))
        return mean, confidence_interval(a, b, level, chance), a, b, chance

    mean, interval, a, b, chance = compared(problem.gain, 0.95)
    gains = {}
    for task in problem.metrics:
        gain, ends, *_ = compared(lambda score, task=task: score[task], 1 - 0.05 / len(problem.metrics), task)
        gains[task] = (gain, *(ends or (None, None)))
    variance = sum(mean_and_spread(each)[1] ** 2 / len(each) for each in (a, b))
    return Outcome(mean, interval, gains, len(trials), chance > 0, [float(v) for v in a], variance, chance)


def is_overturned(result: Outcome | None) -> bool:
    """Whether the test overturns the choice: its interval lies below what it is tested beside.

    That is then the advice. It is all that test examples decide.
    """
    return result is not None and result.interval is not None and result.interval[1] < 0


def signed(value: float) -> str:
    """A number with its sign and two digits; no sign where it is 0."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def sharing_of(candidate: Candidate, problem: Problem) -> str:
    """In words, what a candidate shares."""
    count = len(problem.stages)
    if candidate.name == ALONE:
        return "Do not share"
    if candidate.builder == "hard_sharing":
        depth = candidate.options.get("shared_depth")
        what = "everything" if depth is None else f"the first {depth} of {count} stages"
        return f"Share {what}" + ("" if candidate.name in (ALL,) or depth else f", weighted by {candidate.weighting!r}")
    if candidate.builder == "branched_sharing":
        groups = candidate.options["branches"][-1]
        named = ", ".join("{" + ", ".join(group) + "}" for group in groups)
        depth = sum(len(level) == 1 for level in candidate.options["branches"])
        return f"Share within groups {named}" + (f", after {depth} common stages" if depth else "")
    return f"Share by {candidate.name}"


def verdict(
    problem: Problem, chosen: Standing, standings: Sequence[Standing], result: Outcome | None, against: Standing
) -> list[str]:
    """Sentences: what to do, by how much it wins, what is not significantly different.

    Where the test overturns the choice, the outcomes of both say so too.

    Args:
        problem: `Problem`.
        chosen: `Standing` of what validation chose.
        standings: List of `Standing`.
        result: `Outcome`, or `None` where there was no time for it.
        against: `Standing` of what the test compared with.

    Returns:
        List of sentences.
    """
    taken = against if is_overturned(result) else chosen
    said = [f"{sharing_of(taken.candidate, problem)}."]
    single = next(each for each in standings if each.candidate.name == ALONE)
    if taken is not single and taken.parameters < 0.9 * single.parameters:
        said.append(
            f"It has {100 * taken.parameters / single.parameters:.0f} % of the parameters of single-task columns "
            f"({taken.parameters:,} of {single.parameters:,})."
        )
    if result is None:
        said.append("There was no time to train it anew and test it: this rests on validation examples alone.")
        return said
    said += _test_said(result, chosen.candidate.name, against.candidate.name, problem.unlearned)
    if taken is against:
        low, high = result.interval  # type: ignore[misc]
        came = f"{signed(result.delta_m)} % ({low:+.2f} to {high:+.2f})"
        chosen.outcome = f"the choice of validation, overturned by the test: {came}"
        against.outcome = "chosen by the test, which overturned the choice of validation"
        return said
    alike = [s.candidate.name for s in standings if s is not chosen and "significantly different" in s.outcome]
    if alike:
        said.append(f"Validation did not tell it apart from: {', '.join(alike)}.")
    return said


def _test_said(result: Outcome, chosen: str, against: str, unlearned: Collection[str]) -> Iterator[str]:
    other = "single-task columns" if against == ALONE else f"'{against}'"
    seeds, of = f"{result.seeds} fresh seed{'s' * (result.seeds > 1)}", ""
    if result.interval is None:
        yield f"On the test it is {signed(result.delta_m)} % beside {other} with one seed: nothing is known of chance."
        return
    low, high = result.interval
    ends = f"95 % interval {low:+.2f} to {high:+.2f}, {seeds}{' and the choice of examples' * result.examples}"
    if low > 0:
        yield f"On the test it is better than {other} by {signed(result.delta_m)} % ({ends})."
    elif high < 0:
        yield (
            f"Validation chose '{chosen}', which on the test is worse than {other}, by {signed(result.delta_m)} % "
            f"({ends}): the test overturns that choice. Having decided, that number is an overestimate."
        )
        of = f" with '{chosen}'"
    else:
        yield f"On the test no difference to {other} was seen: {signed(result.delta_m)} % ({ends}). {_needed(result)}"
    gains = {task: gain for task, gain in result.gains.items() if task not in unlearned}
    lost = [task for task, (_, _, top) in gains.items() if top is not None and top < 0]
    won = [task for task, (_, bottom, _) in gains.items() if bottom is not None and bottom > 0]
    if won:
        yield f"Tasks that win{of}: {', '.join(f'{t} ({result.gains[t][0]:+.1f} %)' for t in won)}."
    if lost:
        yield f"Tasks that lose{of}: {', '.join(f'{t} ({result.gains[t][0]:+.1f} %)' for t in lost)}."


def _needed(result: Outcome) -> str:
    """What would show a difference of the size that was seen."""
    size = abs(result.delta_m)
    half = (result.interval[1] - result.interval[0]) / 2  # type: ignore[index]
    if size < half / 30:
        return "What was seen is next to nothing, which no reasonable number of seeds would tell from 0."
    factor = (half / size) ** 2
    if result.example_variance > result.seed_variance:
        return f"If it is real, about {factor:.2g} times as many test examples would show it."
    return f"If it is real, about {math.ceil(result.seeds * factor):,} seeds would show it."
