"""The command line of recipes, their loop over models and seeds, and what their models are made of."""

import argparse
import re
import shutil
import time
from pathlib import Path

import keras
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

import keras_mtl

from .pictures import curves, dots
from .tables import COSTS, by_group, console, label, report

SINGLE = "single-task"


def command_line(
    file, text, *, models=(), default=None, quick_models=None, seeds=5, epochs=None, fresh=True, **further
):
    """The options of a recipe.

    Args:
        file: Path of the recipe, whose name is that of its folder in runs/.
        text: The recipe's docstring, whose first line is shown.
        models: Names that `--models` takes. Defaults to none: no such option.
        default: Names that are trained without `--models`. Defaults to all.
        quick_models: The same under `--quick`.
        seeds: String, as `--seeds` takes it, or a number of seeds. Under `--quick` the first of them. Defaults to `5`.
        epochs: Tuple of the number of epochs, and that under `--quick`. Defaults to `None`: no such option.
        fresh: Boolean. Whether logs of an earlier run go.
        **further: More options, as of `add_options`.

    Returns:
        Namespace with `quick`, `seeds` (a list), `models`, `epochs`, what `further` names, and `folder`.
    """
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data, one seed: shows that it runs, nothing else")
    seeds_help = f"how many, a list (3,4,5), or from the first to before the last (10:15); default: {seeds}"
    parser.add_argument("--seeds", type=seeds_of, help=seeds_help)
    if models:
        parser.add_argument("--models", help=f"all, or some of: {','.join(models)}")
    if epochs:
        parser.add_argument("--epochs", type=int, help=f"of each training (default: {epochs[0]})")
    add_options(parser, further)
    options = parser.parse_args()
    options.seeds = options.seeds or seeds_of(str(seeds))[: 1 if options.quick else None]
    if models:
        usual = (quick_models if options.quick else None) or default or models
        options.models = options.models.split(",") if options.models else list(usual)
        options.models = list(models) if options.models == ["all"] else options.models
        if unknown := [name for name in options.models if name not in models]:
            parser.error(f"--models takes some of: {','.join(models)}. Received: {','.join(unknown)}")
    if epochs:
        options.epochs = options.epochs or epochs[options.quick]
    options.folder = output_folder(Path(file).stem + "-quick" * options.quick, fresh)
    return options


def add_options(parser, options):
    """Adds options to a command line.

    Args:
        parser: `argparse.ArgumentParser`.
        options: Dict from name to default, or to a tuple of default and help. `False` makes a flag, a tuple one of
            several values, a list any number of them, a dict any number of its keys.
    """
    for name, given in options.items():
        value, words = given if isinstance(given, tuple) else (given, "")
        how = {"default": value, "type": type(value)}
        if value is False:
            how = {"action": "store_true"}
        elif isinstance(value, tuple):
            how = {"default": value[0], "choices": value}
        elif isinstance(value, list | dict):
            how = {"default": list(value), "nargs": "*", "type": type(next(iter(value)))}
            how |= {"choices": value} if isinstance(value, dict) else {}
        told = f" (default: {how['default']})" if "default" in how else ""
        parser.add_argument(f"--{name.replace('_', '-')}", help=words + told, **how)


def seeds_of(text):
    """The list of seeds that `5`, `3,4,5` or `10:15` stands for."""
    if ":" in text:
        found = list(range(*map(int, text.split(":"))))
    else:
        found = [int(part) for part in text.split(",")]
        found = found if "," in text else list(range(found[0]))
    if not found or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"should be a number, a list or first:end of seeds. Received: {text}")
    return found


def output_folder(name, fresh=True):
    """The folder runs/<name> in the working directory; if fresh, without the logs of an earlier run."""
    folder = Path("runs") / name
    if fresh:
        shutil.rmtree(folder / "logs", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def progress(unit="models"):
    """A bar that counts models and always knows its time left, however long a step takes."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), unit, TimeElapsedColumn(), "left:")
    return Progress(*columns, TimeRemainingColumn(), console=console, speed_estimate_period=1e9)


class PartOfModel(keras.callbacks.Callback):
    """Moves a bar of models by a part of one with every epoch."""

    def __init__(self, move):
        super().__init__()
        self.move = move

    def on_epoch_end(self, epoch, logs=None):
        self.move((epoch + 1) / self.params["epochs"])


def board(options, name, seed):
    folder = re.sub(r"[^\w.]+", "_", label(name)).strip("_")
    return keras_mtl.callbacks.TaskBoard(options.folder / "logs" / folder / f"seed{seed}", images_every=10)


def trained(function, options, names=None, logs=True):
    """Every model with every seed.

    Args:
        function: Function from a name, a seed and a list of callbacks to a dict of scores, and what else is of
            interest. Keras' session and seed are fresh.
        options: As of `command_line`.
        names: List of names. Defaults to `options.models`.
        logs: Boolean. Whether TensorBoard's logs are among the callbacks. Defaults to `True`.

    Returns:
        Dict from name to a dict from score, and `"seconds"`, to a list over the seeds.
    """
    names = names or options.models
    results = {name: {} for name in names}
    width = max(len(label(name)) for name in names)
    with progress() as bar:
        row = bar.add_task("", total=len(names) * len(options.seeds))
        jobs = [(name, seed) for seed in options.seeds for name in names]
        for done, (name, seed) in enumerate(jobs):
            bar.update(row, description=f"{label(name)}, seed {seed}")
            part = PartOfModel(lambda share, done=done: bar.update(row, completed=done + min(share, 1)))
            keras.utils.clear_session()
            keras.utils.set_random_seed(seed)
            start = time.perf_counter()
            found = function(name, seed, [*([board(options, name, seed)] if logs else []), part])
            found = {"seconds": time.perf_counter() - start, **found}
            for key, value in found.items():
                results[name].setdefault(key, []).append(value)
            numbers = {key: value for key, value in found.items() if key not in COSTS and np.isscalar(value)}
            told = ", ".join(f"{key} {value:.4g}" for key, value in list(numbers.items())[:4])
            bar.console.print(
                f"{label(name):>{width}}  seed {seed}: {told}  ({found['seconds']:.0f} s)", soft_wrap=True
            )
            bar.update(row, completed=done + 1)
    return results


def compared(candidates, options, data, metrics, scales=None, **settings):
    """Candidates beside single-task models, by `keras_mtl.analysis.compare`; what was trained before is read.

    Args:
        candidates: Dict from name to a function that builds a compiled model.
        options: As of `command_line`.
        data: Training data.
        metrics: Dict from task to the metric that counts.
        scales: Dict from task to the number that its score is multiplied by. Defaults to 100 for all.
        **settings: Further arguments of `compare`.

    Returns:
        Results, as of `trained`, single-task models first, and the `keras_mtl.analysis.Report`.
    """
    report = keras_mtl.analysis.compare(
        candidates,
        data,
        metrics=metrics,
        epochs=options.epochs,
        seeds=options.seeds,
        directory=options.folder / "trained",
        callbacks=lambda name, seed: [board(options, name, seed)],
        **settings,
    )

    def column(runs, task):
        return [(scales or {}).get(task, 100) * run["values"][f"{task}_{metrics[task]}"] for run in runs]

    results = {SINGLE: {task: column(runs, task) for task, runs in report.baselines.items()}}
    for cost in COSTS:  # of all networks of one seed
        of_tasks = [[run[cost] for run in runs] for runs in report.baselines.values()]
        results[SINGLE][cost] = list(np.sum(of_tasks, axis=0))
    for name, runs in report.runs.items():
        results[name] = {task: column(runs, task) for task in metrics}
        results[name] |= {cost: [run[cost] for run in runs] for cost in COSTS}
    console.print(report.origin or "", soft_wrap=True)
    return results, report


def study(function, options, scores, *, groups=None, title="Test", logs=True, along=None, axes=None, **how):
    """Trains, tests, prints a table and a verdict, and draws pictures in the recipe's folder.

    Args:
        function: As of `trained`. With groups, its name is a tuple of group and model.
        options: As of `command_line`.
        scores: Dict from score to its title, or a tuple of scores.
        groups: Dict from what is varied beside the model to its title. Defaults to `None`.
        title: String. What the scores are.
        logs: As of `trained`.
        along: Dict from what the function gives a list of over training to its title, for curves.png.
        axes: Dict of further arguments of `curves`.
        **how: Further arguments of `report`.

    Returns:
        Results, as of `trained`.
    """
    names = [(group, name) for group in groups for name in options.models] if groups else None
    results = trained(function, options, names, logs)
    if along:
        curves(by_group(results, groups), along, options.folder / "curves.png", **(axes or {}))
    summarize(results, options, scores, groups=groups, title=title, **how)
    return results


def summarize(results, options, scores, *, groups=None, title="Test", **how):
    """The table, the verdict and the picture of results."""
    parts = by_group(results, groups)
    for words, part in parts.items():
        report(part, options, scores, title=f"{words}: {title}" if words else title, **how)
    dots(parts, scores, options.folder / "results.png", how.get("reference"), title)
    console.print(f"Pictures: {options.folder}", soft_wrap=True)
    if (options.folder / "logs").exists():
        console.print(f"Curves:   tensorboard --logdir {options.folder / 'logs'}", soft_wrap=True)


def start_again(model, weights):
    """Gives a trained model these weights and an optimizer that has seen nothing: it need not be traced anew."""
    model.set_weights(weights)
    for part in getattr(model.optimizer, "optimizers", [model.optimizer]):
        rate = part.learning_rate
        for variable in (v for v in part.variables if v is not rate):
            variable.assign(keras.ops.zeros_like(variable))


def convolutions(*filters, units):
    """Stages for pictures: a convolution that halves them for each number of filters, and a dense layer."""
    layers = keras.layers
    halving = [[layers.Conv2D(n, 3, padding="same", activation="relu"), layers.MaxPooling2D()] for n in filters]
    return [*halving, [layers.Flatten(), layers.Dense(units, activation="relu")]]
