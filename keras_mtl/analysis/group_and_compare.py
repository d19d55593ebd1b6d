"""Affinities, groups, training and report in one call."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from keras_mtl._checks import check_boolean
from keras_mtl._files import writable_folder
from keras_mtl._types import Data, Structure, Tasks
from keras_mtl.analysis.compare import compare, seeds_of
from keras_mtl.analysis.grouping._pairwise import ALL_GROUPS_UP_TO
from keras_mtl.analysis.grouping._select import labels_of_tasks
from keras_mtl.analysis.grouping.group_tasks import METHODS as GROUPINGS
from keras_mtl.analysis.grouping.group_tasks import group_tasks
from keras_mtl.analysis.grouping.grouped_model import build_groups
from keras_mtl.analysis.grouping.grouping import Grouping
from keras_mtl.analysis.grouping.measure_networks import measure_networks
from keras_mtl.analysis.grouping.network import Network
from keras_mtl.analysis.measure_affinity import METHODS, measure_affinity
from keras_mtl.analysis.report import Report
from keras_mtl.analysis.task_relations import task_relations

if TYPE_CHECKING:
    from keras_mtl.metrics._affinity import Affinity
    from keras_mtl.models.multi_task_model import MultiTaskModel

MEASURES = (*METHODS, "labels", "networks")
TOGETHER, CHOSEN, RANDOM = "all together", "chosen groups", "random groups"


class GroupStudy(NamedTuple):
    """What `group_and_compare` found.

    - `scores`: `Affinity`, or a list of `Network`: what the groups were chosen
      by.
    - `grouping`: `Grouping`. The chosen groups.
    - `report`: `Report`. Chosen groups, random groups of the same sizes, and
      all tasks together, against single-task models.
    """

    scores: object
    grouping: Grouping
    report: Report


def group_and_compare(
    builder: Callable[[list[str]], MultiTaskModel],
    data: Data,
    *,
    test: Data,
    metrics: Mapping[str, str | Sequence[str]],
    scores: str | Affinity | Mapping[str, Mapping[str, float]] = "look_ahead",
    budget: int,
    method: str | None = None,
    alone: float = 0.0,
    overlap: bool = True,
    validation: Data | None = None,
    epochs: int = 10,
    seeds: int | Sequence[int] = 3,
    every: int = 10,
    directions: Mapping[str, str] | None = None,
    random_groups: bool = True,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> GroupStudy:
    """Measures affinities, groups tasks, trains the groups, and reports.

    1. One network of all tasks is trained and watched (or what else `scores`
       says), on the training data alone.
    2. `group_tasks` chooses groups within the budget.
    3. `compare` trains, once for each seed and from scratch: a network for
       each chosen group, one for each group of a random grouping of the same
       sizes and cost, another one for each seed, one network of all tasks, and
       each task's layers of that network alone, which are the baseline.

    Args:
        builder: Function from a list of tasks to a compiled `MultiTaskModel`
            of these tasks.
        data: Training data: a data set, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        test: Test data, as `data`. They choose nothing.
        metrics: Dict from task to the metric that counts, named as in the logs
            after the task: `"accuracy"`, `"loss"`. Its tasks are grouped;
            labels of others are left out.
        scores: What groups are chosen by: `"look_ahead"`, `"cosine"` or
            `"representation"` (see `measure_affinity`; for the last one,
            networks of one task each are trained), `"labels"` (the association of
            `task_relations`, without training), `"networks"` (networks of all
            single tasks and pairs, measured on `validation`), or an `Affinity`
            or list of `Network` from elsewhere. Defaults to `"look_ahead"`.
        budget: Integer. Number of networks.
        method: As in `group_tasks`. `"clustering"` gets the mean of both
            directions of what is measured. Defaults to `"higher_order"` with
            networks, else `"integer"`.
        alone: As in `group_tasks`. Defaults to `0.0`.
        overlap: Boolean. Whether a task may be trained in several networks.
            Defaults to `True`.
        validation: Validation data, as `data`. Defaults to `None`.
        epochs: Integer. For every training. Defaults to `10`.
        seeds: Integer, or a list of integers. Defaults to `3`.
        every: Integer. Steps between two measurements of affinity. Defaults to
            `10`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        random_groups: Boolean. Whether random groups are compared, too.
            Defaults to `True`.
        directory: Path of a folder. What has been measured, chosen and trained
            is kept there, and read where nothing differs that could change it,
            as in `compare`; a call that was killed goes on. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`, such as `batch_size`.

    Returns:
        A `GroupStudy`: `(scores, grouping, report)`.

    Raises:
        ValueError: If `scores` or `method` is unknown, they do not go together,
            the budget does not pay for one network, or "networks" come
            without `validation`: all before anything is trained. Or if two
            tasks never have labels in the same batch, so that their affinity
            is unknown: `measure_affinity(...).filled(0.0)` may be given as
            `scores`.
    """
    check_boolean(overlap, "overlap")
    check_boolean(random_groups, "random_groups")
    check_boolean(progress, "progress")
    tasks = list(metrics)
    if isinstance(scores, str):
        _check(scores, method, budget, tasks, validation)
    folder = None if directory is None else writable_folder(directory, "directory")
    data, validation, test = (labels_of_tasks(part, tasks) for part in (data, validation, test))
    found = scores
    if isinstance(scores, str):
        options = {"epochs": epochs, "progress": progress, **fit_options}
        if scores == "networks":
            options |= {"validation": validation, "metrics": metrics, "directions": directions}
            found = measure_networks(builder, data, directory=_within(folder, "networks"), **options)
        else:
            options |= {"every": every, "directory": _within(folder, "affinity")}
            found = _affinity(builder, data, tasks, scores, seeds_of(seeds)[0], options)
            found = found.symmetric() if method == "clustering" else found
    by_networks = isinstance(found, list) and all(isinstance(one, Network) for one in found)
    method = method or ("higher_order" if by_networks else "integer")
    grouping = group_tasks(found, budget, method=method, tasks=tasks, overlap=overlap, alone=alone)  # type: ignore[arg-type]
    if folder is not None:
        grouping.save(folder / "grouping.json")
    report = compare(
        _candidates(builder, tasks, grouping, random_groups),  # type: ignore[arg-type]
        data,
        metrics=metrics,
        test=test,
        validation=validation,
        epochs=epochs,
        seeds=seeds,
        directions=directions,
        directory=_within(folder, "runs"),
        progress=progress,
        **fit_options,
    )
    return GroupStudy(found, grouping, report)


def _candidates(
    builder: Callable[[Sequence[str]], MultiTaskModel], tasks: Tasks, grouping: Grouping, random_groups: bool
) -> dict[str, Any]:
    """What `compare` compares: all tasks in one network, the chosen groups and, if asked for, random ones."""
    candidates = {TOGETHER: lambda: builder(list(tasks)), CHOSEN: lambda: build_groups(grouping, builder)}
    if random_groups:
        # `compare` sets the global seed before it builds: every seed has a random grouping of its own.
        candidates[RANDOM] = lambda: build_groups(grouping.shuffled(), builder)
    return candidates


def _check(scores: Structure, method: str | None, budget: int, tasks: Tasks, validation: Data | None) -> None:
    """Raises what `group_tasks` would raise once scores were measured at length."""
    if scores not in MEASURES:
        raise ValueError(f"`scores` should be one of {MEASURES}, affinities or networks. Received: {scores!r}")
    if scores == "networks" and validation is None:
        raise ValueError("`validation` should be given where `scores` are those of trained networks. Received: None")
    taken = [name for name in GROUPINGS if name not in ("higher_order", "early_stopping")]
    if scores == "networks":
        taken = [name for name in GROUPINGS if name != "clustering"]
    elif len(tasks) > ALL_GROUPS_UP_TO:
        taken = ["integer", "clustering"]
    if method is not None and method not in taken:
        raise ValueError(
            f"`method` should be one of {taken} for {len(tasks)} tasks and scores='{scores}'. "
            f"Received: method={method!r}"
        )
    if not math.isfinite(budget) or budget < 1:
        raise ValueError(f"`budget` should be a finite number of networks, at least 1. Received: budget={budget!r}")


def _within(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _affinity(
    builder: Callable[[list[str]], MultiTaskModel],
    data: Data,
    tasks: Tasks,
    scores: str,
    seed: int | None,
    options: Mapping[str, Any],
) -> Affinity:
    if scores == "labels":
        y = data[1] if isinstance(data, tuple) else None
        if not isinstance(y, dict):
            raise ValueError("`scores='labels'` needs `data` as arrays. Received: a data set")
        return task_relations({task: y[task] for task in tasks}).association
    keras.utils.set_random_seed(seed)
    alone = scores == "representation"
    model = build_groups([[task] for task in tasks], builder) if alone else builder(list(tasks))
    return measure_affinity(model, data, method=scores, **options)
