"""What the recipes share: one command line, one loop over models and seeds, one table, one verdict, one picture.

A recipe reads its options with `command_line` and hands a function `(name, seed, callbacks) -> scores` to `study`,
which does the rest; what it writes goes to runs/<name of the recipe>/ in the working directory. Where the scores are
logs of `evaluate` on data that no seed draws anew, `compared` takes functions that build models instead, and
`keras_mtl.analysis.compare` keeps what was trained.
"""

import argparse
import os
import re
import shutil
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # recipes import this first, before TensorFlow comes in

import keras
import numpy as np
import tensorflow as tf
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    track,
)
from rich.table import Table
from scipy.stats import rankdata, ttest_ind, ttest_rel

import keras_mtl

tf.get_logger().setLevel("ERROR")  # TensorFlow warns of models that are compiled one after the other

console = Console()
SINGLE = "single-task"
ENOUGH_SEEDS = 5  # with fewer, nothing is stated
COSTS = ("parameters", "seconds")


# ---------------------------------------------------------------------------------------------------- command line


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
        **further: More options: name to a tuple of default and help. `False` makes a flag, a tuple a choice.

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
    for name, (value, words) in further.items():
        how = {"default": value, "type": type(value), "help": f"{words} (default: {value})"}
        if value is False:
            how = {"action": "store_true", "help": words}
        elif isinstance(value, tuple):
            how = {"default": value[0], "choices": value, "help": f"{words} (default: {value[0]})"}
        parser.add_argument(f"--{name}", **how)
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


def drawn_faces(tasks, quick, splits=None, halved=False):
    """Faces as of `data.faces`, which are drawn once, under a progress bar; halved, they are 32 x 32 pixels large."""
    from data import faces

    splits = splits or ({"train": 400, "validation": 100, "test": 100} if quick else faces.SPLITS)
    data = faces.faces(
        tasks, splits, track=lambda of, total: track(of, "rendering faces, once", total, console=console)
    )
    side = faces.SIDE // 2
    if halved:
        data = {split: (x.reshape(len(x), side, 2, side, 2, 3).mean((2, 4)), y) for split, (x, y) in data.items()}
    return data


# ------------------------------------------------------------------------------------------ models, seeds, progress


def progress(unit="models"):
    """A bar that counts models and always knows its time left, however long a step takes."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=1e9,
    )


class PartOfModel(keras.callbacks.Callback):
    """Moves a bar of models by a part of one with every epoch."""

    def __init__(self, move):
        super().__init__()
        self.move = move

    def on_epoch_end(self, epoch, logs=None):
        self.move((epoch + 1) / self.params["epochs"])


def label(name):
    """A model's name as text: of a group and a model, both."""
    return ", ".join(map(str, name)) if isinstance(name, tuple) else name


def board(options, name, seed):
    """TensorBoard's logs of one training."""
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
        Results, as of `trained`, single-task models first if they were trained, and the `keras_mtl.analysis.Report`.
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

    results = {}
    if not report.baselines_are_known:
        alone = {task: column(runs, task) for task, runs in report.baselines.items()}
        for cost in COSTS:  # of all networks of one seed
            alone[cost] = list(np.sum([[run[cost] for run in runs] for runs in report.baselines.values()], axis=0))
        results[SINGLE] = alone
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


def by_group(results, groups=None):
    """Results of each group by its title; all of them under no title where there are no groups."""
    if not groups:
        return {"": results}
    return {
        words: {name: found for (of_group, name), found in results.items() if of_group == group}
        for group, words in groups.items()
    }


def summarize(results, options, scores, *, groups=None, title="Test", **how):
    """The table, the verdict and the picture of results."""
    parts = by_group(results, groups)
    for words, part in parts.items():
        report(part, options, scores, title=f"{words}: {title}" if words else title, **how)
    dots(parts, scores, options.folder / "results.png", how.get("reference"), title)
    console.print(f"Pictures: {options.folder}", soft_wrap=True)
    if (options.folder / "logs").exists():
        console.print(f"Curves:   tensorboard --logdir {options.folder / 'logs'}", soft_wrap=True)


# --------------------------------------------------------------------------------------------- tables and verdicts


def print_table(title, header, rows):
    """A table, its first column to the left."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, column in enumerate(header):
        table.add_column(column, justify="right" if place else "left", no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def over_seeds(options):
    """What a table is of."""
    count = len(options.seeds)
    if options.quick:
        return "a quick run, which shows nothing but that it runs"
    return f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed"


def may_state(options):
    """Whether there are seeds enough for a verdict; says so where there are not."""
    if not options.quick and len(options.seeds) < ENOUGH_SEEDS:
        console.print(f"Fewer than {ENOUGH_SEEDS} seeds: nothing is stated.")
    return not options.quick and len(options.seeds) >= ENOUGH_SEEDS


def report(
    results,
    options,
    scores,
    *,
    title="",
    reference=None,
    lower=(),
    digits=1,
    paired=False,
    comparisons=None,
    gain=True,
    verdict=True,
):
    """Prints means over seeds, and which models the seeds tell apart from a reference.

    Args:
        results: As of `trained`, of one group.
        options: As of `command_line`.
        scores: Dict from score to its title, or a tuple of scores.
        title: String.
        reference: Name of the model that the others are compared with. Defaults to `None`: nothing is compared.
        lower: Scores of which less is better; `True` for all. Defaults to none.
        digits: Integer of decimals or string of a format, such as `.2g`, or dict from score to one.
        paired: Boolean. Whether seeds draw what all models have in common, such as the data: then a paired t-test.
            Defaults to `False`: Welch's.
        comparisons: Integer. How many tests share the 5 %. Defaults to all of the table.
        gain: Boolean. Whether delta_m over the reference is shown.
        verdict: Boolean. Whether anything is tested.
    """
    if not results:
        return  # none of these models was asked for
    scores = scores if isinstance(scores, dict) else {score: score for score in scores}
    lower = scores if lower is True else lower
    others = [name for name in results if name != reference] if reference in results else []
    comparisons = comparisons or len(others) * len(scores)
    stated = bool(others) and verdict and may_state(options)
    apart = {
        (name, score): stated
        and tell_apart(results[name][score], results[reference][score], comparisons=comparisons, paired=paired)
        for name in results
        for score in scores
        if name != reference
    }
    costs = [cost for cost in COSTS if cost in next(iter(results.values()))]
    header = ["model", *costs, *scores.values(), *(["delta_m, %"] if others and gain else [])]
    rows = []
    for name, found in results.items():
        cells = [f"{np.mean(found[cost]):,.0f}" for cost in costs]
        for score in scores:
            mark = " *" if apart.get((name, score)) else ""
            cells.append(mean_and_spread(found[score], digits_of(score, digits)) + mark)
        if others and gain:
            own, of_reference = ({score: model[score] for score in scores} for model in (found, results[reference]))
            relative = all(np.mean(values) for values in of_reference.values())  # to 0, nothing is
            cells.append(mean_and_spread(delta_m(own, of_reference, lower), signed=True) if relative else "")
        rows.append([label(name), *cells])
    if len(scores) > 6:  # more scores than fit beside each other: a column for each model
        header, *rows = map(list, zip(header, *rows, strict=True))
    print_table(f"{title}, {over_seeds(options)}", header, rows)
    if not stated:
        return
    for name in others:
        found = {True: [], False: []}
        for score, words in scores.items():
            if apart[name, score]:
                difference = np.mean(results[name][score]) - np.mean(results[reference][score])
                told = f"{words} ({difference:+{digits_of(score, digits)}})"
                found[bool((difference < 0) == (score in lower))].append(told)
        better, worse = (", ".join(found[kind]) or "nothing" for kind in (True, False))
        console.print(f"{label(name)}, beside {reference}: better in {better}; worse in {worse}.", soft_wrap=True)
    kind = "paired t-tests" if paired else "Welch's t-tests"
    console.print(
        f"*: significantly different from {reference} by {kind} at 5 %, shared out over {comparisons} comparisons."
    )


def tell_apart(scores, others, comparisons=1, paired=False):
    """Whether two means over seeds differ by Welch's test at 5 %, or by a paired one, shared out over comparisons.

    Paired is for seeds that draw the data too: what a split makes easy for one model it makes easy for the other. Where
    nothing varies, a test has nothing to go by, and no difference is significant.
    """
    scores, others = np.asarray(scores, "float64"), np.asarray(others, "float64")
    spread = np.std(scores - others) if paired else np.hypot(scores.std(), others.std())
    if spread <= 1e-9 * np.abs(np.concatenate([scores, others])).max():
        return False
    test = ttest_rel(scores, others) if paired else ttest_ind(scores, others, equal_var=False)
    return bool(test.pvalue < 0.05 / comparisons)


def mean_and_spread(values, digits=1, signed=False):
    """Text such as `95.1 ± 0.2`: mean and standard deviation over seeds; none where there are no numbers."""
    values = np.asarray(values, "float64")
    if np.isnan(values).all():
        return ""
    form = digits_of(None, digits)
    mean = f"{values.mean():{'+' if signed else ''}{form}}"
    return f"{mean} ± {values.std(ddof=1):{form}}" if len(values) > 1 else mean


def digits_of(score, digits):
    """How a score is written: a format."""
    digits = digits.get(score, 1) if isinstance(digits, dict) else digits
    return digits if isinstance(digits, str) else f".{digits}f"


def delta_m(scores, baseline, lower_is_better=()):
    """Mean over tasks of the relative gain over the baseline's mean over seeds, in percent, for each seed."""
    metric = {task: "error" if task in lower_is_better else "accuracy" for task in scores}  # a name tells the direction
    single = {task: {metric[task]: float(np.mean(baseline[task]))} for task in scores}
    by_seed = zip(*scores.values(), strict=True)
    named = [{t: {metric[t]: v} for t, v in zip(scores, values, strict=True)} for values in by_seed]
    return np.array([keras_mtl.metrics.delta_m(values, single) for values in named])


def start_again(model, weights):
    """Gives a trained model these weights and an optimizer that has seen nothing: it need not be traced anew."""
    model.set_weights(weights)
    for part in getattr(model.optimizer, "optimizers", [model.optimizer]):
        rate = part.learning_rate
        for variable in (v for v in part.variables if v is not rate):
            variable.assign(keras.ops.zeros_like(variable))


def steps_until(curve, enough, every):
    """Steps until a curve, which has a point for `every` steps, is high enough; infinite where it never is."""
    reached = np.flatnonzero(np.array(curve) >= enough)
    return (reached[0] + 1) * every if len(reached) else np.inf


def area_under_roc(labels, scores):
    """How likely a positive example scores higher than a negative one; ties count half."""
    positive = np.ravel(labels) > 0.5
    ranks = rankdata(np.ravel(scores))
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count))


def convolutions(*filters, units):
    """Stages for pictures: a convolution that halves them for each number of filters, and a dense layer."""
    layers = keras.layers
    halving = [[layers.Conv2D(n, 3, padding="same", activation="relu"), layers.MaxPooling2D()] for n in filters]
    return [*halving, [layers.Flatten(), layers.Dense(units, activation="relu")]]


def fitting_width(count, size, width, rounds):
    """Of so many widths, the one whose `count` of parameters, which grows with its square, comes closest to a size."""
    counts = {}
    for _ in range(rounds):
        counts[width] = count(width)
        width *= (size / counts[width]) ** 0.5
    return min(counts, key=lambda width: abs(counts[width] - size))


# --------------------------------------------------------------------------------------------------------- pictures


def new_figure(width, height):
    """A figure that needs no display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def dots(parts, scores, path, reference=None, title=None):
    """A panel for each score, a row of them for each group: a dot for each seed, a line at the mean."""
    scores = scores if isinstance(scores, dict) else {score: score for score in scores}
    wide = min(len(scores), 5)
    high = -(-len(scores) // wide)
    models = max(map(len, parts.values()))
    figure = new_figure(2 + 2.6 * wide, (1.2 + 0.3 * models) * high * len(parts) + 0.4)
    legend = "dot: a seed, line: their mean" + (f", dotted: {reference}" if reference else "")
    figure.suptitle(f"{title}\n{legend}" if title else legend, fontsize="medium")
    axes = figure.subplots(high * len(parts), wide, sharey=False, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for block, (words, results) in zip(np.split(axes, len(parts)), parts.items(), strict=True):
        for place, (axis, (score, title)) in enumerate(zip(block.flat, scores.items(), strict=False)):
            axis.set_axis_on()
            for y, found in enumerate(results.values()):
                axis.plot(found[score], np.full(len(found[score]), y), "o", color=f"C{y}", alpha=0.6, markersize=5)
                axis.plot(np.mean(found[score]), y, "|", color="black", markersize=14)
            if reference in results:
                axis.axvline(np.mean(results[reference][score]), color="black", linewidth=0.8, linestyle=":")
            axis.set_yticks(range(len(results)), map(label, results) if place % wide == 0 else [""] * len(results))
            axis.invert_yaxis()
            axis.set_title(f"{words}\n{title}" if words else title, fontsize="medium")
            axis.locator_params(axis="x", nbins=4)
            axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def curves(parts, scores, path, xlabel="epoch", every=1, middle=np.mean, **settings):
    """Curves over training: a panel for each group and score, for each model the middle and the range over seeds.

    Args:
        parts: Dict from a group's title to results, as of `trained`; a seed that ended early has a shorter list.
        scores: Dict from what there is a list of to its title.
        path: Path of the picture.
        xlabel: String.
        every: Number. What lies between two points.
        middle: Function of an array and an axis. Defaults to the mean.
        **settings: Properties of all axes, such as `yscale`.
    """
    panels = [(results, score, [words, title]) for words, results in parts.items() for score, title in scores.items()]
    figure = new_figure(1 + 4 * len(panels), 3.8)
    for axis, (results, score, titles) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for index, (name, found) in enumerate(results.items()):
            longest = max(map(len, found[score]))
            ended = [np.pad(np.float64(run), (0, longest - len(run)), constant_values=np.nan) for run in found[score]]
            values = np.ma.masked_invalid(ended)
            x = every * np.arange(1, longest + 1)
            axis.plot(x, middle(values, axis=0), color=f"C{index}", label=label(name))
            axis.fill_between(x, values.min(0), values.max(0), color=f"C{index}", alpha=0.15, linewidth=0)
        axis.set(title=": ".join(filter(None, titles)), xlabel=f"{xlabel}; middle and range over seeds", **settings)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
