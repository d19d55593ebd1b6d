"""What the recipes share: the output folder, progress, tables, and the comparison with single-task models."""

import shutil
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.stats import rankdata, ttest_ind, ttest_rel

import keras_mtl

console = Console()


def output_folder(name):
    """The folder runs/<name> in the working directory, without the logs of an earlier run."""
    folder = Path("runs") / name
    shutil.rmtree(folder / "logs", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def progress(unit="epochs"):
    """A progress bar, of epochs for `ProgressOfFit`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
    )


def fitting_width(count, size, width, rounds):
    """The width whose number of parameters, which grows with its square, comes closest to a size.

    Args:
        count: Function from a width to the number of parameters.
        size: Integer. The number that is wanted.
        width: Float. Where to begin.
        rounds: Integer. How many widths are tried.
    """
    counts = {}
    for _ in range(rounds):
        counts[width] = count(width)
        width *= (size / counts[width]) ** 0.5
    return min(counts, key=lambda width: abs(counts[width] - size))


class ProgressOfFit(keras.callbacks.Callback):
    """Moves a progress bar by one with every epoch."""

    def __init__(self, bar, row, description):
        super().__init__()
        self.bar, self.row, self.description = bar, row, description

    def on_train_begin(self, logs=None):
        self.bar.update(self.row, description=self.description)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.advance(self.row)


def delta_m(scores, baseline, lower_is_better=()):
    """Mean relative gain over the baseline, in percent; more is better.

    Args:
        scores: Dict from task to an array of scores, one for each seed.
        baseline: Same, of single-task models. Their mean over seeds counts.
        lower_is_better: Collection of tasks. Defaults to none.

    Returns:
        Array of one number for each seed of `scores`.
    """
    metric = {task: "error" if task in lower_is_better else "accuracy" for task in scores}  # a name tells the direction
    single = {task: {metric[task]: float(np.mean(baseline[task]))} for task in scores}
    by_seed = zip(*scores.values(), strict=True)
    named = [{t: {metric[t]: v} for t, v in zip(scores, values, strict=True)} for values in by_seed]
    return np.array([keras_mtl.metrics.delta_m(values, single) for values in named])


def mean_and_spread(values, digits=1, signed=False):
    """Text such as `95.1 ± 0.2`: mean and standard deviation over seeds."""
    values = np.asarray(values, "float64")
    mean = f"{values.mean():{'+' if signed else ''}.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def beyond_noise(scores, others):
    """Whether two means over seeds differ by more than two standard errors of the difference."""
    scores, others = np.asarray(scores, "float64"), np.asarray(others, "float64")
    error = np.sqrt(scores.var(ddof=1) / len(scores) + others.var(ddof=1) / len(others))
    return bool(abs(scores.mean() - others.mean()) > 2 * error)


def seeds_tell_apart(scores, others, comparisons=1):
    """Whether two means over seeds differ by Welch's test at 5 %, shared out over this many comparisons."""
    return bool(ttest_ind(scores, others, equal_var=False).pvalue < 0.05 / comparisons)


def pairs_tell_apart(scores, others, comparisons=1):
    """Whether two means over the same seeds differ by a paired t-test at 5 %, shared out over this many comparisons.

    For seeds that draw the data too: what a split makes easy for one model it makes easy for the other.
    """
    return bool(ttest_rel(scores, others).pvalue < 0.05 / comparisons)


def area_under_roc(labels, scores):
    """How likely a positive example scores higher than a negative one; ties count half."""
    positive = np.ravel(labels) > 0.5
    ranks = rankdata(np.ravel(scores))
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count))
