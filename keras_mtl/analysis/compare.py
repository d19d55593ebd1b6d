"""One honest comparison: candidates against single-task models, over seeds."""

import keras

from keras_mtl.analysis.report import Report
from keras_mtl.analysis.runs import RunStore, labels_of, train_and_evaluate
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.models.multi_task_model import MultiTaskModel

SINGLE_TASK = "single-task"


def compare(
    candidates,
    data,
    *,
    single_task,
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
    with the same data, number of epochs and `fit` options. Single-task models
    are the columns of the model that `single_task` builds, each trained alone.
    Models are evaluated once, on `test`, after the last epoch: the test data
    choose nothing, and no baseline is a run's own first epoch.

    Args:
        candidates: Dict from name to a function without arguments that returns
            a compiled `MultiTaskModel`.
        data: Training data: a data set, or a tuple `(x, y)` or
            `(x, y, sample_weight)`.
        single_task: Function without arguments that returns a compiled
            `MultiTaskModel` whose tasks share nothing, such as
            `hard_sharing(..., shared_depth=0)`.
        metrics: Dict from task to the metric that counts (or a list of them),
            named as in the logs after the task: `"accuracy"`, `"loss"`.
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
        ValueError: If the single-task model shares variables, a task is
            missing from `metrics` or from a candidate, or a metric's direction
            is unknown.
    """
    metrics = {task: [m] if isinstance(m, str) else list(m) for task, m in metrics.items()}
    for of_task in metrics.values():
        for metric in of_task:
            higher_is_better(metric, directions)
    if SINGLE_TASK in candidates:
        raise ValueError(f"`candidates` should not use the name '{SINGLE_TASK}'. Received: {list(candidates)}")
    seeds = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    _check_single_task(single_task(), metrics)
    settings = {"epochs": epochs, "metrics": metrics, "fit": {k: v for k, v in fit_options.items() if k != "callbacks"}}
    store = RunStore(directory, settings)

    def train(name, seed, build, tasks):
        run = store.load(name, seed)
        if run is None:
            keras.utils.set_random_seed(seed)
            model = build()
            _check_tasks(name, model, tasks)
            alone = len(tasks) < len(metrics)
            train_part, val_part, test_part = (labels_of(p, tasks) if alone else p for p in (data, validation, test))
            run = train_and_evaluate(model, train_part, val_part, test_part, epochs, fit_options)
            store.save(name, seed, run)
        return run

    jobs = []
    for seed in seeds:
        for task in metrics:
            jobs.append((f"{SINGLE_TASK} {task}", seed, lambda task=task: _alone(single_task(), task), [task]))
        jobs += [(name, seed, build, list(metrics)) for name, build in candidates.items()]
    runs = {}
    for name, seed, build, tasks in _progress(jobs, progress):
        runs.setdefault(name, []).append(train(name, seed, build, tasks))
    baselines = {task: runs.pop(f"{SINGLE_TASK} {task}") for task in metrics}
    return Report(runs, baselines, metrics, seeds, directions)


def _alone(columns, task):
    """A single-task model out of independent columns, compiled as they were."""
    model = MultiTaskModel(columns.sharing.inputs_of(task), {task: columns.output[task]}, name=f"single_{task}")
    compiled = columns.compiled_tasks
    model.compile(
        optimizer=type(columns.optimizer).from_config(columns.optimizer.get_config()),
        jit_compile=columns.jit_compile,
        steps_per_execution=columns.steps_per_execution,
        **compiled.options_of(task),
    )
    return model


def _check_single_task(model, metrics):
    if model.shared_variables:
        raise ValueError(
            "`single_task` should build a model whose tasks share nothing. Received: shared variables "
            f"{[v.path for v in model.shared_variables][:5]}"
        )
    _check_tasks(SINGLE_TASK, model, metrics)


def _check_tasks(name, model, tasks):
    if not isinstance(model, MultiTaskModel) or not model.compiled:
        raise ValueError(f"Candidate '{name}' should return a compiled `MultiTaskModel`. Received: {model!r}")
    missing = [task for task in tasks if task not in model.tasks]
    if missing:
        raise ValueError(f"Candidate '{name}' should have every task of `metrics`. Received: no {missing}")


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
