"""Comparison of candidates with single-task models, over seeds."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import Data
from keras_mtl.analysis._baselines import alone, check, check_candidate, network_of
from keras_mtl.analysis._new_models import NewModels
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._runs import RUN, has_values, labels_of, train_and_evaluate
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.report import Report
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel
    from keras_mtl.models.multi_task_model import MultiTaskModel

SINGLE_TASK = "single-task"


def compare(
    candidates: Mapping[str, Callable[[], MultiTaskModel | GroupedModel]],
    data: Data,
    *,
    test: Data,
    metrics: Mapping[str, str | Sequence[str]],
    baselines: str | Callable[[], Any] | Mapping[str, Any] = "single_task",
    validation: Data | None = None,
    epochs: int = 10,
    seeds: int | Sequence[int] = 3,
    directions: Mapping[str, str] | None = None,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> Report:
    """Trains single-task baselines and candidates, and reports who gained.

    Every model is built, compiled and trained from scratch once for each seed,
    with the same data, number of epochs and `fit` options. Models are
    evaluated once, on `test`, after the last epoch: the test data choose
    nothing, and no baseline is a run's own first epoch.

    Args:
        candidates: Dict from name to a function without arguments that returns
            a compiled `MultiTaskModel`, or a `GroupedModel` of several.
        data: Training data: a `tf.data.Dataset` or a `PyDataset`, or a tuple
            `(x, y)` or `(x, y, sample_weight)`.
        test: Test data, as `data`.
        metrics: Dict from task to the metric that counts (or a list of them),
            named as in the logs after the task: `"accuracy"`, `"loss"`. Tasks
            that are left out, such as auxiliary ones, do not count.
        baselines: What single-task models are. `"single_task"`: each task's
            layers in the first candidate, from its inputs to its output, built
            anew and trained alone; for hard sharing, a column of the trunk
            with its head. A function without arguments that returns a compiled
            `MultiTaskModel` whose tasks share nothing, such as
            `hard_sharing(..., shared_depth=0)`: its columns, each trained
            alone. Or a dict from task to metric to a value that is known
            already, such as `report.baseline_means`; then nothing is trained
            for it. Defaults to `"single_task"`.
        validation: Validation data for the curves, as `data`. Defaults to
            `None`.
        epochs: Integer. Defaults to `10`.
        seeds: Integer, or a list of integers. Defaults to `3`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        directory: Path of a folder for finished runs. A run that is there is
            read, not trained, if nothing differs that could change it: its
            model as it was built and compiled, its initial weights and seed,
            the data, the epochs and `fit` options; names and `metrics` may
            differ. The report says how many were read. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`, such as `batch_size`.
            `callbacks` may be a function from a run's name and seed to a list
            of callbacks that only look on, such as a `TaskBoard` with a folder
            for each run: it does not count as what could change a run.

    Returns:
        A `Report`.

    Raises:
        ValueError: If the baselines share variables or lack a task, a task or
            metric is missing from a candidate, a metric's direction is
            unknown, or a function gives a model that is not new.
    """
    check_boolean(progress, "progress")
    metrics, seeds = _checked(candidates, metrics, seeds, directions)  # type: ignore[arg-type]
    new = NewModels()
    check(baselines, metrics, candidates, new)
    whole = (data, validation, test)
    watching = fit_options.pop("callbacks") if callable(fit_options.get("callbacks")) else None
    runs, alone_runs, built = {}, {}, {}
    jobs = _jobs(candidates, baselines, metrics, seeds)
    settings: dict[str, Any] = {"data": whole, "epochs": epochs, "fit": fit_options}
    with RunStore(directory, **settings) as store, run_bar("compare", len(jobs), progress) as begin:
        for name, seed, build, task in jobs:
            begin(f"{name}, seed {seed}")
            model = None
            if store.keeps and (id(build), seed) not in built:
                model = _build(name, build, seed, metrics, new)
                built[id(build), seed] = store.digest(model=model)
            key = store.key(model=built.get((id(build), seed)), seed=seed, task=task)
            needed = [f"{t}_{m}" for t in metrics for m in metrics[t] if task in (None, t)]
            run = store.load(key, RUN, check=has_values(needed))
            if run is None:
                options = fit_options if watching is None else {**fit_options, "callbacks": watching(name, seed)}
                run = _train(model or _build(name, build, seed, metrics, new), task, whole, epochs, options)
                store.save(key, f"{name}-seed{seed}", run)
            of_name = runs.setdefault(name, []) if task is None else alone_runs.setdefault(task, [])
            of_name.append(run)
        begin()
    found = baselines if isinstance(baselines, dict) else alone_runs
    return Report(runs, found, metrics, seeds, directions, store.said() if store.keeps else None)


def _checked(
    candidates: Mapping[str, Any],
    metrics: Mapping[str, str | Sequence[str]],
    seeds: int | Sequence[int],
    directions: Mapping[str, str],
) -> tuple[dict[str, list[str]], list[int]]:
    """Metrics as a dict from task to a list, and seeds as a list."""
    metrics = {task: [m] if isinstance(m, str) else list(m) for task, m in metrics.items()}
    for of_task in metrics.values():
        for metric in of_task:
            higher_is_better(metric, directions)
    if not all(isinstance(name, str) for name in candidates):
        raise ValueError(
            f"`candidates` should be a dict from names, strings, to functions. Received: {list(candidates)}"
        )
    if SINGLE_TASK in candidates:
        raise ValueError(f"`candidates` should not use the name '{SINGLE_TASK}'. Received: {list(candidates)}")
    seeds = seeds_of(seeds)
    if not candidates or not seeds or not metrics:
        raise ValueError(
            "`candidates`, `seeds` and `metrics` should not be empty. "
            f"Received: candidates={list(candidates)}, seeds={seeds}, metrics={metrics}"
        )
    return metrics, seeds  # type: ignore[return-value]


def _jobs(
    candidates: Mapping[str, Any],
    baselines: str | Callable[[], Any] | Mapping[str, Any],
    metrics: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
) -> list[tuple[Any, ...]]:
    """Tuples of a name, a seed, the function that builds, and the task that is trained alone, or `None`."""
    jobs = []
    for seed in seeds:
        if not isinstance(baselines, dict):
            build = next(iter(candidates.values())) if baselines == "single_task" else baselines
            jobs += [(f"{SINGLE_TASK} {task}", seed, build, task) for task in metrics]
        jobs += [(name, seed, build, None) for name, build in candidates.items()]  # type: ignore[misc]
    return jobs


def _train(
    model: MultiTaskModel, task: str, whole: tuple[Data, Data | None, Data], epochs: int, fit_options: Mapping[str, Any]
) -> dict[str, Any]:
    """Trains and tests a candidate, or the part of a model that serves one task, alone."""
    train, validation, test = whole
    if task is None:
        return train_and_evaluate(model, train, validation, test, epochs, fit_options)
    condition = network_of(model, task).compiled_tasks.task_losses.sample_space.get(task)
    single = alone(model, task)
    columns = single.compiled_tasks.task_losses.columns
    train, validation, test = (labels_of(part, task, condition, columns) for part in whole)
    return train_and_evaluate(single, train, validation, test, epochs, fit_options)


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """The list of seeds that a number or a collection of them stands for."""
    if isinstance(seeds, numbers.Integral):
        return list(range(check_integer(seeds, "seeds")))
    return [check_integer(seed, "seeds") for seed in seeds]


def _build(
    name: str, build: Callable[[], Any], seed: int, metrics: Mapping[str, Sequence[str]], new: NewModels
) -> MultiTaskModel:
    keras.utils.set_random_seed(seed)
    model = build()
    check_candidate(name, model, metrics)
    new.check(f"Candidate '{name}'", model)
    return model
