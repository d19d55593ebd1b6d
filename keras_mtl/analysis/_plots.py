"""Pictures of a comparison."""

import itertools

import numpy as np

from keras_mtl.analysis._statistics import mean_and_spread


def pyplot():
    """Pyplot without a display.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def plot_report(report, path):
    """Draws the gain of each task with error bars, and training curves.

    Args:
        report: A `keras_mtl.analysis.Report`.
        path: Path of the picture.
    """
    plt = pyplot()
    tasks, names = list(report.metrics), list(report.runs)
    wide = min(4, 1 + len(tasks))
    high = -(-(1 + len(tasks)) // wide)
    figure, axes = plt.subplots(high, wide, figsize=(1 + 3.6 * wide, 3.6 * high), layout="constrained", squeeze=False)
    places = list(axes.flat)
    _plot_gains(places[0], report, tasks, names)
    for axis, task in zip(places[1:], tasks, strict=False):
        _plot_curves(axis, report, task, names)
    for axis in places[1 + len(tasks) :]:
        axis.set_axis_off()
    handles, labels = places[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_gains(axis, report, tasks, names):
    width = 0.8 / len(names)
    places = np.arange(len(tasks))
    spreads = [mean_and_spread(report.baseline_gains[task])[1] for task in tasks]
    axis.bar(places, [2 * s for s in spreads], 0.94, bottom=[-s for s in spreads], color="black", alpha=0.12)
    for i, name in enumerate(names):
        stats = [mean_and_spread(report.gains(name, task)) for task in tasks]
        means, errors = zip(*stats, strict=True)
        axis.bar(places + (i - (len(names) - 1) / 2) * width, means, width, yerr=errors, capsize=3, color=f"C{i}")
    axis.axhline(0, color="black", linewidth=1)
    axis.set_xticks(places, tasks)
    axis.set_ylabel("gain over single-task (%)")
    axis.set_title("gain by task, mean ± sd over seeds\n(grey: sd of single-task)", fontsize="medium")


def _plot_curves(axis, report, task, names):
    runs = {} if report.baselines_are_known else {"single-task": (report.baselines[task], "black")}
    runs.update({name: (report.runs[name], f"C{i}") for i, name in enumerate(names)})
    for name, (of_name, color) in runs.items():
        log = f"val_{task}_loss" if f"val_{task}_loss" in of_name[0]["curves"] else f"{task}_loss"
        each = [run["curves"][log] for run in of_name]
        epochs = min(map(len, each))  # early stopping ends runs at different epochs
        curves = np.array([curve[:epochs] for curve in each])
        axis.plot(range(1, epochs + 1), curves.mean(0), label=name, color=color, marker="." if epochs < 10 else None)
        axis.fill_between(range(1, epochs + 1), curves.min(0), curves.max(0), alpha=0.15, color=color)
    axis.set_title(f"{log}, mean and range over seeds", fontsize="medium")
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)


def plot_sweep(sweep, path):
    """Draws the models of a sweep, for each pair of metrics.

    Args:
        sweep: A `keras_mtl.analysis.ParetoSweep`.
        path: Path of the picture.
    """
    plt = pyplot()
    pairs = list(itertools.combinations(sweep.signs, 2))
    figure, axes = plt.subplots(1, len(pairs), figsize=(1 + 3.6 * len(pairs), 3.6), layout="constrained", squeeze=False)
    for axis, (x, y) in zip(axes.flat, pairs, strict=True):
        beaten = [point for point in sweep.points if not point["on_front"]]
        front = sorted(sweep.front, key=lambda point: point[x])
        axis.plot([p[x] for p in beaten], [p[y] for p in beaten], "o", color="0.7", label="beaten by another")
        line = "o-" if len(pairs) == 1 else "o"
        axis.plot([p[x] for p in front], [p[y] for p in front], line, color="C0", label="on the front")
        for name, label in ((x, axis.set_xlabel), (y, axis.set_ylabel)):
            label(f"{name} ({'more' if sweep.signs[name] > 0 else 'less'} is better)")
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
