"""One honest comparison: candidates against single-task models, over seeds."""

import keras

from keras_mtl.analysis.baselines import alone, check, check_model, network_of
from keras_mtl.analysis.report import Report
from keras_mtl.analysis.runs import RunStore, labels_of, train_and_evaluate
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.numbers import check_boolean

SINGLE_TASK = "single-task"


def compare(
    candidates,
    data,
    *,
    baselines="single_task",
    metrics,
    test,
    validation=None,
    epochs=10,
    seeds=3,
    directions=None,
    directory=None,
    progress=True,
    **fit_options,
):
    """Trains single-task baselines and candidates, and reports who gained.

    Every model is built, compiled and trained from scratch once for each seed,
    with the same data, number of epochs and `fit` options. Models are
    evaluated once, on `test`, after the last epoch: the test data choose
    nothing, and no baseline is a run's own first epoch.

    Args:
        candidates: Dict from name to a function without arguments that returns
            a compiled `MultiTaskModel`, or a `GroupedModel` of several.
        data: Training data: a data set, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        baselines: What single-task models are. `"single_task"`: each task's
            layers in the first candidate, from its inputs to its output, built
            anew and trained alone; for hard sharing, a column of the trunk
            with its head. A function without arguments that returns a compiled
            `MultiTaskModel` whose tasks share nothing, such as
            `hard_sharing(..., shared_depth=0)`: its columns, each trained
            alone. Or a dict from task to metric to a value that is known
            already, such as `report.baseline_means`; then nothing is trained
            for it. Defaults to `"single_task"`.
        metrics: Dict from task to the metric that counts (or a list of them),
            named as in the logs after the task: `"accuracy"`, `"loss"`. Tasks
            that are left out, such as auxiliary ones, do not count.
        test: Test data, as `data`.
        validation: Validation data for the curves, as `data`. Defaults to
            `None`.
        epochs: Integer. Defaults to `10`.
        seeds: Integer, or a list of integers. Defaults to `3`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        directory: Path of a folder for finished runs. A comparison that was
            killed goes on from there. Runs are made anew where the epochs,
            metrics or `fit` options differ; changed builders or data need
            another folder. Defaults to `None`.
        progress: Boolean. Whether to show progress. Defaults to `True`.
        **fit_options: Further arguments of `fit`, such as `batch_size`.

    Returns:
        A `Report`.

    Raises:
        ValueError: If the baselines share variables or lack a task, a task or
            metric is missing from a candidate, or a metric's direction is
            unknown.
    """
    check_boolean(progress, "progress")
    metrics = {task: [m] if isinstance(m, str) else list(m) for task, m in metrics.items()}
    for of_task in metrics.values():
        for metric in of_task:
            higher_is_better(metric, directions)
    if SINGLE_TASK in candidates:
        raise ValueError(f"`candidates` should not use the name '{SINGLE_TASK}'. Received: {list(candidates)}")
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not candidates or not seeds or not metrics:
        raise ValueError(
            "`candidates`, `seeds` and `metrics` should not be empty. "
            f"Received: candidates={list(candidates)}, seeds={seeds}, metrics={metrics}"
        )
    check(baselines, metrics, candidates)
    settings = {"epochs": epochs, "metrics": metrics, "fit": {k: v for k, v in fit_options.items() if k != "callbacks"}}
    store = RunStore(directory, settings)
    whole = (data, validation, test)
    from_first = next(iter(candidates.values())) if baselines == "single_task" else baselines

    def train_alone(name, task):
        model = from_first()
        check_model(name, model, metrics)
        condition = network_of(model, task).compiled_tasks.task_losses.sample_space.get(task)
        single = alone(model, task)
        columns = single.compiled_tasks.task_losses.columns
        train_part, val_part, test_part = (labels_of(part, task, condition, columns) for part in whole)
        return train_and_evaluate(single, train_part, val_part, test_part, epochs, fit_options)

    def train_candidate(name, build):
        model = build()
        check_model(name, model, metrics)
        return train_and_evaluate(model, *whole, epochs, fit_options)

    jobs = []
    for seed in seeds:
        if not isinstance(baselines, dict):
            jobs += [(f"{SINGLE_TASK} {task}", seed, train_alone, task) for task in metrics]
        jobs += [(name, seed, train_candidate, build) for name, build in candidates.items()]
    runs = {}
    for name, seed, train, what in _progress(jobs, progress):
        run = store.load(name, seed)
        if run is None:
            keras.utils.set_random_seed(seed)
            run = train(name, what)
            store.save(name, seed, run)
        runs.setdefault(name, []).append(run)
    if not isinstance(baselines, dict):
        baselines = {task: runs.pop(f"{SINGLE_TASK} {task}") for task in metrics}
    return Report(runs, baselines, metrics, seeds, directions)


def _progress(jobs, show):
    if not show:
        yield from jobs
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns) as bar:
        item = bar.add_task("compare", total=len(jobs))
        for job in jobs:
            bar.update(item, description=f"{job[0]}, seed {job[1]}")
            yield job
            bar.advance(item)
