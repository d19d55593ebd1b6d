"""`advise`: share or not, how much, with which weighting, and what it gains."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._files import writable_folder
from keras_mtl._types import Data, Inputs, Structure
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.advice._candidates import ALL, ALONE, choose_candidates
from keras_mtl.analysis.advice._decide import decide, is_overturned, outcome_of, verdict
from keras_mtl.analysis.advice._halving import EnoughTime, Rung, halve, make_plan, rungs_of, standings_of
from keras_mtl.analysis.advice._look import look
from keras_mtl.analysis.advice._problem import Candidate, Problem
from keras_mtl.analysis.advice._trial import Job, OutOfTimeError, seconds_of
from keras_mtl.analysis.advice._trials import FINAL_SEED, Trials
from keras_mtl.analysis.advice._watch import Watch, WatchColumns, Watched, still_learning
from keras_mtl.analysis.advice._widths import fit_width
from keras_mtl.analysis.advice._workers import START, Workers, check_no_worker
from keras_mtl.analysis.advice.advice import Advice

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._decide import Standing
    from keras_mtl.analysis.advice._trial import Trial

_SPENT = 0.9  # the part of the given time that trainings may take: there is more to do
_SEARCHED, _TESTED = 1.0, 1.08  # parts of the given time after which no search and no test goes on


def advise(
    inputs: Inputs,
    stages: Sequence,
    heads: Mapping[str, Any],
    *,
    train: Data,
    test: Data,
    compile: Mapping[str, Any],
    metrics: Mapping[str, Any],
    validation: Data | None = None,
    minutes: float = 10,
    epochs: int = 20,
    seeds: int = 3,
    batch_size: int = 32,
    parameters: int | None = None,
    standardize: bool = False,
    seed: int = 0,
    directions: Mapping[str, str] | None = None,
    directory: str | PathLike | None = None,
    logs: str | PathLike | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Advice:
    """Finds out whether tasks should share, how much and with which weighting.

    It looks at the data, watches one ordinary training of the fully shared
    model, chooses a few candidates for reasons that it has seen, and spends
    the given time on them: all for a part of the epochs, the better ones for
    more, each with the same seeds, on validation examples alone (successive
    halving). The simplest candidate within one standard error of the best is
    trained anew, on all training examples with fresh seeds, and tested once,
    beside single-task columns, or these beside the fully shared model. Where
    it is significantly worse, the other is the advice.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of stages, as builders take them. Every candidate gets
            copies.
        heads: Dict from task to a Keras layer or a list of layers.
        train: Training data, a tuple `(x, y)` or `(x, y, sample_weight)` of
            arrays, with `y` a dict from task to labels; or a `tf.data.Dataset`
            or `keras.utils.PyDataset` of batches of these, which is read once
            and held in memory.
        test: Test data, as `train`. They choose nothing, but for that: a
            choice whose 95 % interval lies below what it is tested beside is
            overturned.
        compile: Dict of arguments of `MultiTaskModel.compile`: `loss` at least.
            Where it has a `weighting`, no other one is tried.
        metrics: Dict from task to the metric that counts, a string or a
            `keras.metrics.Metric`; `"loss"` is one too. Tasks that are left
            out, such as auxiliary ones, do not count.
        validation: Validation data, as `train`. Defaults to `None`: a fifth of
            the training examples, others for each seed, which the last
            trainings have back.
        minutes: Float. The time there is; a tenth more is the most that it
            takes. Defaults to `10`.
        epochs: Integer. Epochs of a whole training. Defaults to `20`.
        seeds: Integer. The most seeds of a comparison. Defaults to `3`.
        batch_size: Integer. Defaults to `32`.
        parameters: Integer. Trainable parameters of every candidate's trunk,
            for which the widths of its stages (`units` and `filters`) are
            fitted. Defaults to `None`: stages are as they are given, and what
            shares less has more.
        standardize: Boolean. Whether labels that are numbers are brought to
            mean 0 and standard deviation 1, by the training examples. The
            model predicts and metrics count in these units;
            `Advice.scales` has what was done. Defaults to `False`.
        seed: Integer. Which training examples validate where they are split off,
            initial weights and the order of the data. Defaults to `0`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        directory: Path of a folder that keeps every training, so that a call
            that was killed goes on where it was. Defaults to `None`.
        logs: Path of a folder for TensorBoard, into which `TaskBoard` writes
            the last training of the chosen model and of what it is tested
            beside, if these are not read. Defaults to `None`.
        workers: Integer. From 2 on, so many processes train candidates side by
            side, each with its part of the cores; the answer is that of one
            process. A script calls `advise` under
            `if __name__ == "__main__":` then. Defaults to `None`: this process
            trains them, one after the other.
        progress: Boolean. Whether the plan and progress are shown. Defaults
            to `True`.

    Returns:
        An `Advice`.

    Raises:
        ValueError: If there is one task only, data lack labels of a task,
            stages, heads or `compile` do not fit, a metric's direction is
            unknown, the time is too short for two trainings, single-task
            columns cannot be trained, or `workers` cannot be sent what was
            given.
        RuntimeError: If workers do not start.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
    >>> y = {"a": x[:, :1] + x[:, 1:2], "b": x[:, :1] - x[:, 2:3]}
    >>> advice = keras_mtl.advise(  # doctest: +SKIP
    ...     keras.Input((4,)),
    ...     stages=[keras.layers.Dense(8, activation="relu")],
    ...     heads={task: keras.layers.Dense(1) for task in y},
    ...     train=(x[:60], {task: labels[:60] for task, labels in y.items()}),
    ...     test=(x[60:], {task: labels[60:] for task, labels in y.items()}),
    ...     compile={"optimizer": "adam", "loss": "mse"},
    ...     metrics={"a": "loss", "b": "loss"},
    ... )
    >>> advice.print()  # doctest: +SKIP

    References:

    - K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016
      (successive halving).
    - L. Breiman et al., "Classification and Regression Trees", 1984 (the rule of one standard error).
    """
    begun = time.perf_counter()
    check_no_worker()
    check_boolean(progress, "progress")
    seconds = 60 * check_number(minutes, "minutes", above=0)
    epochs, seeds = check_integer(epochs, "epochs", 1), check_integer(seeds, "seeds", 1)
    batch_size = check_integer(batch_size, "batch_size", 1)
    parameters = check_integer(parameters, "parameters", 1, or_none=True)
    workers = check_integer(workers, "workers", 1, or_none=True) or 1
    given: dict[str, Any] = {
        "train": train,
        "validation": validation,
        "test": test,
        "compile": compile,
        "metrics": metrics,
    }
    options: dict[str, Any] = {
        "directions": directions,
        "batch_size": batch_size,
        "standardize": check_boolean(standardize, "standardize"),
        "seed": check_integer(seed, "seed", 0),
    }
    problem = Problem(inputs, stages, heads, **given, **options)
    kept = {"inputs": _shapes(inputs), "stages": problem.stages, "heads": problem.heads, "parameters": parameters}
    validated = None if problem.held_out else problem.validation
    given |= {"train": problem.all_training, "validation": validated, "test": problem.test}  # also of data sets
    settings = {"what": "advice", **given, **options, **kept, "search": [seeds, epochs]}
    with contextlib.ExitStack() as stack:
        if workers > 1 and directory is None:  # they find each other's trainings in a folder
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="keras-mtl-advise-"))
            settings = {"settings_digest": "of one call"}
        else:
            folder = directory
        store, points = stack.enter_context(RunStore(folder, **settings)), rungs_of(epochs)
        team = stack.enter_context(Workers(workers, problem, store, points)) if workers > 1 else None
        trials = Trials(problem, store, points, begun + _TESTED * seconds, team)
        logs = None if logs is None else writable_folder(logs, "logs")
        advice = _advise(problem, trials, seconds, epochs, seeds, parameters, logs, progress, begun)
        advice.origin = None if directory is None else store.said()
    return advice


def _advise(
    problem: Problem,
    trials: Trials,
    seconds: float,
    epochs: int,
    seeds: int,
    parameters: int | None,
    logs: Path | None,
    progress: bool,
    begun: float,
) -> Advice:
    findings = look(problem)

    def fitted(candidate: Candidate) -> Candidate:
        return candidate if parameters is None else fit_width(problem, candidate, parameters)

    at_once = trials.at_once
    alone = fitted(Candidate(ALONE, "", options={"shared_depth": 0}))
    together = fitted(Candidate(ALL, ""))
    first_two = [
        Job("single-task columns", alone, 0, epochs, watch=WatchColumns, check=EnoughTime(epochs, seconds, at_once)),
        Job("everything shared, watched", together, 0, epochs, watch=Watch),
    ]
    with run_bar("advise", 2, progress) as begin:
        first, watched_trial = _first_two(trials.each(first_two, begin), seconds)
        begin()
    if watched_trial.watched is None:
        raise ValueError(f"The fully shared model should be able to train. Received: {watched_trial.failed}")
    watched = Watched(watched_trial.watched, first.watched)
    findings += watched.findings(problem.metrics)
    if len(watched.unlearned) < len(problem.metrics):
        problem.unlearned = set(watched.unlearned)
    findings += still_learning(problem, first)
    gain = problem.gain(problem.score(watched_trial.values[-1], first.values[-1]))
    chosen_ones = choose_candidates(problem, watched, gain)
    candidates, left_out = _fitted(chosen_ones, {ALONE: alone, ALL: together}, fitted)
    planned = 0.97 * seconds - trials.spent - (START if at_once > 1 else 0.0)
    plan = make_plan(len(candidates), epochs, seeds, planned, first, at_once)
    if not plan.rungs:
        plan.rungs.append(Rung(epochs, 1, 2))
    trials.deadline = begun + _SEARCHED * seconds - plan.final_seconds
    if progress:
        by = f", {at_once} trainings at a time" if at_once > 1 else ""
        print(f"{plan}{by}. Given: {seconds / 60:g} minutes.", flush=True)
    with run_bar("advise", plan.trainings, progress) as begin:

        def step(what: str) -> None:
            begin(f"{what}; {max(0.0, seconds - (time.perf_counter() - begun)):.0f} s left of the given time")

        runs = {ALONE: {0: first}, ALL: {0: watched_trial}}
        halve(problem, candidates, runs, plan, trials, seconds - plan.final_seconds, step)
        standings = standings_of(problem, candidates, runs)
        whole = [each for each in standings if each.epochs == epochs and each.delta_m]
        chosen, _, _ = decide(whole, problem.held_out)
        _say_outcomes(standings, whole)
        trials.deadline = begun + _TESTED * seconds
        against = alone if chosen.candidate.name != ALONE else together
        wanted = (plan.final_seeds, max(seeds, 2))
        finals = _finish(trials, chosen.candidate, against, wanted, seconds, epochs, logs, step)
        begin()
    result = outcome_of(problem, *finals) if finals[0] else None
    other = next(each for each in standings if each.candidate.name == against.name)
    said = verdict(problem, chosen, standings, result, other)
    taken = against if is_overturned(result) else chosen.candidate
    part, seed = ("final", FINAL_SEED) if finals[0] else ("search", 0)
    model = trials.trained(taken, seed, epochs, part)
    return Advice(
        problem=problem,
        verdict=said,
        findings=findings,
        standings=standings,
        chosen=taken,
        tested=chosen.candidate,
        against=against,
        result=result,
        watched=watched,
        curves={name: runs[name][0].values for name in runs if 0 in runs[name]},
        left_out=left_out,
        plan=str(plan),
        epochs=epochs,
        seed=problem.global_seed(seed),
        seconds=time.perf_counter() - begun,
        model=model,
    )


def _first_two(trainings: Iterator[Trial], seconds: float) -> tuple[Trial, Trial]:
    """Those of single-task columns and of the fully shared model."""
    try:
        first = next(trainings)
        if first.failed:
            raise ValueError(f"Single-task columns should be able to train. Received: {first.failed}")
        return first, next(trainings)
    except OutOfTimeError:
        raise ValueError(
            f"`minutes` should be enough for two models and their test. Received: minutes={seconds / 60:g}, in which "
            "the two were not trained"
        ) from None


def _fitted(
    candidates: Sequence[Candidate], done: Mapping[str, Candidate], fitted: Callable[[Candidate], Candidate]
) -> tuple[list[Candidate], dict[str, str]]:
    """Candidates with fitted widths, and those that cannot be built, with the reason."""
    found, left_out = [], {}
    for candidate in candidates:
        if candidate.name in done:
            # The same as was trained already, with its reason.
            found.append(_with_reason(done[candidate.name], candidate.reason))
            continue
        try:
            found.append(fitted(candidate))
        except ValueError as error:  # such as stitches on stages that end in several tensors
            left_out[candidate.name] = str(error).split("\n")[0]
    return found, left_out


def _with_reason(candidate: Candidate, reason: str) -> Candidate:
    return Candidate(candidate.name, reason, candidate.builder, candidate.options, width=candidate.width)


def _say_outcomes(standings: Sequence[Standing], whole: Sequence[Standing]) -> None:
    for each in standings:
        if each not in whole and not each.outcome:
            each.outcome = f"out after {each.epochs} epochs, at {each.mean:+.2f} %"


def _finish(
    trials: Trials,
    chosen: Candidate,
    against: Candidate,
    seeds: tuple[int, int],
    seconds: float,
    epochs: int,
    logs: Path | None,
    step: Callable[[str], None],
) -> tuple[list[Trial], list[Trial]]:
    """The last trainings of two candidates, paired by seed: as planned, and more where that took less time."""
    pairs, longest, planned, most = [], 0.0, *seeds

    def jobs_of(seed: int) -> list[Job]:
        jobs, first = [], seed == FINAL_SEED
        for candidate in (chosen, against):
            # Either may be the advice: the code gives the model that it has trained.
            said, board = f"{candidate.name} anew, seed {seed}", logs if first else None
            jobs.append(Job(said, candidate, seed, epochs, final=True, board=board, as_code=first))
        return jobs

    places = range(FINAL_SEED, FINAL_SEED + max(planned, most))
    try:
        for part in (places[:planned], *([place] for place in places[planned:])):
            # By what trainings took, so that a call that goes on after a kill comes to the same.
            if part[0] != FINAL_SEED and trials.spent + longest > _SPENT * seconds:
                break
            done = trials.each([job for seed in part for job in jobs_of(seed)], step)
            for pair in zip(done, done, strict=True):
                longest = max(longest, seconds_of([trial.seconds for trial in pair], trials.at_once))
                if not any(trial.failed for trial in pair):
                    pairs.append(pair)
    except OutOfTimeError:
        pass
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _shapes(inputs: Inputs) -> Structure:
    return keras.tree.map_structure(lambda x: [list(x.shape), str(x.dtype)], inputs)
