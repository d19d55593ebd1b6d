"""Pictures of a comparison."""

import numpy as np

from keras_mtl.analysis.statistics import mean_and_spread


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
    figure, axes = plt.subplots(1, 1 + len(tasks), figsize=(5 + 3.6 * len(tasks), 4), layout="constrained")
    _plot_gains(axes[0], report, tasks, names)
    for axis, task in zip(axes[1:], tasks, strict=True):
        _plot_curves(axis, report, task, names)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_gains(axis, report, tasks, names):
    width = 0.8 / len(names)
    places = np.arange(len(tasks))
    for i, name in enumerate(names):
        stats = [mean_and_spread(report.gains(name, task)) for task in tasks]
        means, spreads = zip(*stats, strict=True)
        axis.bar(places + (i - (len(names) - 1) / 2) * width, means, width, yerr=spreads, capsize=3, label=name)
    axis.axhline(0, color="black", linewidth=1)
    axis.set_xticks(places, tasks)
    axis.set_ylabel("gain over single-task (%)")
    axis.set_title("gain per task, mean ± sd over seeds")
    axis.legend(fontsize="small")


def _plot_curves(axis, report, task, names):
    runs = {"single-task": report.baselines[task], **{name: report.runs[name] for name in names}}
    for index, (name, of_name) in enumerate(runs.items()):
        log = f"val_{task}_loss" if f"val_{task}_loss" in of_name[0]["curves"] else f"{task}_loss"
        curves = np.array([run["curves"][log] for run in of_name])
        epochs = np.arange(1, curves.shape[1] + 1)
        color = "black" if index == 0 else f"C{index - 1}"
        axis.plot(epochs, curves.mean(0), label=name, color=color)
        axis.fill_between(epochs, curves.min(0), curves.max(0), alpha=0.15, color=color)
    axis.set_title(log)
    axis.set_xlabel("epoch")
