"""Training networks of few tasks, to know how well groups do."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._checks import check_boolean
from keras_mtl._types import Data
from keras_mtl.analysis._new_models import NewModels
from keras_mtl.analysis._progress import run_bar
from keras_mtl.analysis._runs import RUN, has_values, train_and_evaluate
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.compare import seeds_of
from keras_mtl.analysis.grouping._select import labels_of_tasks
from keras_mtl.analysis.grouping.network import Network
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def measure_networks(
    builder: Callable[[list[str]], MultiTaskModel],
    data: Data,
    *,
    metrics: Mapping[str, str],
    validation: Data,
    sizes: Collection[int] = (1, 2),
    epochs: int = 10,
    seeds: int | Sequence[int] = 1,
    relative: bool = True,
    cost: Callable[[tuple[str, ...]], float] | None = None,
    directions: Mapping[str, str] | None = None,
    directory: str | os.PathLike | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> list[Network]:
    """Trains a network for every set of tasks of the given sizes.

    With sizes 1 and 2 it gives what `group_tasks(method="higher_order")`
    takes; with all sizes and few epochs, what "early_stopping" takes.

    Args:
        builder: Function from a list of tasks to a compiled `MultiTaskModel`
            of these tasks.
        data: Training data: a data set, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        metrics: Dict from task to the metric that counts, named as in the logs
            after the task: `"accuracy"`, `"loss"`.
        validation: Data to measure on, as `data`; not the test data, since
            what is measured chooses.
        sizes: Collection of integers. Defaults to `(1, 2)`.
        epochs: Integer. Defaults to `10`.
        seeds: Integer, or a list of integers; losses are means over them.
            Defaults to `1`.
        relative: Boolean. Whether a task's loss is 1 less its relative gain
            over its network alone, so that tasks of different scales can be
            added up. Else it is the metric, with a minus sign where higher is
            better. Defaults to `True`.
        cost: Function from a tuple of tasks to cost. Defaults to 1 each.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        directory: Path of a folder for finished runs, of which those that
            nothing could have changed are read, as in `compare`. Defaults to
            `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`.

    Returns:
        List of `Network`.

    Raises:
        ValueError: If `relative` is asked without networks of one task, or a
            metric's direction is unknown.
    """
    check_boolean(relative, "relative")
    check_boolean(progress, "progress")
    tasks = list(metrics)
    sizes = sorted(set(sizes))
    if not sizes or sizes[0] < 1 or sizes[-1] > len(tasks):
        raise ValueError(f"`sizes` should be from 1 to the number of tasks, {len(tasks)}. Received: {sizes}")
    if relative and 1 not in sizes:
        raise ValueError(f"`relative=True` needs networks of one task. Received: sizes={sizes}")
    higher = {task: higher_is_better(metric, directions) for task, metric in metrics.items()}
    seeds = seeds_of(seeds)
    settings: dict[str, Any] = {"data": (data, None, validation), "epochs": epochs, "fit": fit_options}
    groups = [group for size in sizes for group in itertools.combinations(tasks, size)]
    values, new = {}, NewModels()
    total = len(groups) * len(seeds)
    with RunStore(directory, **settings) as store, run_bar("networks", total, progress) as begin:
        for group, seed in itertools.product(groups, seeds):
            begin(f"{' + '.join(group)}, seed {seed}")
            keras.utils.set_random_seed(seed)
            model = builder(list(group))
            new.check("`builder`", model)
            key = store.key(model=model, seed=seed, tasks=group)
            run = store.load(key, RUN, check=has_values([f"{task}_{metrics[task]}" for task in group]))
            if run is None:
                train, test = labels_of_tasks(data, group), labels_of_tasks(validation, group)
                run = train_and_evaluate(model, train, None, test, epochs, fit_options)
                store.save(key, f"network {' '.join(group)}-seed{seed}", run)
            values.setdefault(group, []).append({t: run["values"][f"{t}_{metrics[t]}"] for t in group})
        begin()
    store.say(progress)
    means = {group: {t: sum(run[t] for run in runs) / len(runs) for t in group} for group, runs in values.items()}

    def loss(task: str, value: float) -> float:
        if not relative:
            return -value if higher[task] else value
        single = means[(task,)][task]
        gain = (value - single) / abs(single)
        return 1.0 - gain if higher[task] else 1.0 + gain

    return [
        Network({t: loss(t, v) for t, v in of_group.items()}, 1.0 if cost is None else cost(group))
        for group, of_group in means.items()
    ]
