"""Pictures of a comparison."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._colors import color
from keras_mtl._pyplot import pyplot
from keras_mtl.analysis._fronts import front_line
from keras_mtl.analysis._statistics import confidence_interval, mean_and_spread
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_mtl.analysis.pareto_sweep import ParetoSweep
    from keras_mtl.analysis.report import Report

_BESIDE = 4  # panels in a row
_NAMED = 12  # models on the front; of more, each third has its preference beside it, or fewer


def plot_report(report: Report, path: str | os.PathLike) -> None:
    """Draws gains with their intervals, and what the tasks' metrics were over the epochs.

    Args:
        report: A `keras_mtl.analysis.Report`.
        path: Path of the picture.
    """
    plt = pyplot()
    tasks, names = list(report.metrics), list(report.runs)
    panels = [None, *tasks]  # all tasks together, then each
    wide = min(_BESIDE, len(panels))
    blocks = -(-len(panels) // wide)
    forest = 1.0 + 0.3 * len(names)
    figure, axes = plt.subplots(
        2 * blocks,
        wide,
        figsize=(1.6 + 3.3 * wide, blocks * (forest + 2.9)),
        layout="constrained",
        squeeze=False,
        height_ratios=[forest, 2.7] * blocks,
    )
    for i, task in enumerate(panels):
        row, column = divmod(i, wide)
        upper, lower = axes[2 * row, column], axes[2 * row + 1, column]
        _plot_gains(upper, report, task, names, column == 0)
        if task is None:
            lower.set_axis_off()
            continue
        _plot_curves(lower, report, task, names)
    for i in range(len(panels), blocks * wide):
        for axis in axes[2 * (i // wide) : 2 * (i // wide) + 2, i % wide]:
            axis.set_axis_off()
    handles, labels = axes.flat[wide + 1 if wide > 1 else 1].get_legend_handles_labels()
    legend = axes[1, 0].legend(handles, labels, loc="upper left", fontsize="small", frameon=False)
    legend.set_title("curves: mean and range over seeds", {"size": "small"})
    count = len(report.seeds)
    figure.suptitle(f"Gains over single-task models, {count} seed{'s' * (count > 1)}", fontsize="medium")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_gains(axis: Axes, report: Report, task: str | None, names: Sequence[str], first: bool) -> None:
    """A row for each candidate: its mean gain, and what it is known to."""
    known = report.baselines_are_known
    gains = {name: report.delta_m(name) if task is None else report.gains(name, task) for name in names}
    if task is None:
        alone = [sum(of_seed) / len(of_seed) for of_seed in zip(*report.baseline_gains.values(), strict=True)]
        intervals = {name: report.interval(name) for name in names}
    else:
        alone = report.baseline_gains[task]
        intervals = {name: confidence_interval(gains[name], None if known else alone) for name in names}
    spread = mean_and_spread(alone)[1]
    means = {name: mean_and_spread(of_name)[0] for name, of_name in gains.items()}
    limits = _limits([*means.values(), spread, -spread], [end for ends in intervals.values() if ends for end in ends])
    axis.axvspan(-spread, spread, color="black", alpha=0.08, linewidth=0)
    axis.axvline(0, color="black", linewidth=1)
    for i, name in enumerate(names):
        style: dict[str, Any] = {"color": color(i), "zorder": 3, "clip_on": False}
        if intervals[name] is not None:
            low, high = intervals[name]  # type: ignore[misc]
            axis.plot(np.clip([low, high], *limits), [i, i], linewidth=3 if task is None else 1.8, **style)
            for end, marker in ((low, "<"), (high, ">")):
                if not limits[0] <= end <= limits[1]:
                    axis.plot(np.clip(end, *limits), i, marker, markersize=6, **style)
        shape = "D" if task is None else "o"
        axis.plot(means[name], i, shape, markersize=6, markeredgecolor="white", **style)
        axis.text(
            1.02,
            i,
            f"{means[name]:+.2f}",
            transform=axis.get_yaxis_transform(),
            va="center",
            fontsize="small",
            zorder=4,
        )
    axis.set(xlim=limits, ylim=(len(names) - 0.4, -0.6))
    axis.set_yticks(range(len(names)), names if first else [])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.set_title("all tasks: delta_m" if task is None else task, fontsize="medium", weight="bold")
    ends = "" if all(interval is None for interval in intervals.values()) else ", 95 % interval"
    axis.set_xlabel(
        f"gain in %{ends}" + (" (grey: sd of single-task)" if task is None and spread else ""), fontsize="small"
    )


def _limits(means: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """From where to where the axis goes: all means, and intervals where these are not many times as wide."""
    low, high = min(0.0, *means), max(0.0, *means)
    span = (high - low) or 1.0
    ends = np.clip(ends, low - 1.5 * span, high + 1.5 * span)
    low, high = min([low, *ends]), max([high, *ends])
    margin = 0.06 * ((high - low) or 1.0)
    return low - margin, high + margin


def _plot_curves(axis: Axes, report: Report, task: str, names: Sequence[str]) -> None:
    runs = {} if report.baselines_are_known else {"single-task": (report.baselines[task], "black")}
    runs.update({name: (report.runs[name], color(i)) for i, name in enumerate(names)})
    metric = report.metrics[task][0]
    logs = next(iter(runs.values()))[0][0]["curves"]
    log = next((name for name in (f"val_{task}_{metric}", f"{task}_{metric}") if name in logs), f"{task}_loss")
    metric = log.removeprefix("val_").removeprefix(f"{task}_")
    least, most = np.inf, -np.inf
    for name, (of_name, shade) in runs.items():
        each = [run["curves"][log] for run in of_name]
        epochs = min(map(len, each))  # early stopping ends runs at different epochs
        curves = np.array([curve[:epochs] for curve in each], "float64")
        least, most = min(least, np.nanmin(curves)), max(most, np.nanmax(curves))
        steps, marker = range(1, epochs + 1), "." if epochs < 10 else None
        axis.plot(steps, curves.mean(0), label=name, color=shade, marker=marker, linewidth=1.5)
        axis.fill_between(steps, curves.min(0), curves.max(0), alpha=0.15, color=shade, linewidth=0)
    if not higher_is_better(metric, report.directions) and 0 < 20 * least < most:
        axis.set_yscale("log")  # so that a bad start does not flatten the rest
    better = "more" if higher_is_better(metric, report.directions) else "less"
    whose = "validation" if log.startswith("val_") else "training"
    axis.set_ylabel(f"{metric} ({better} is better)", fontsize="small")
    axis.set_xlabel(f"epoch ({whose})", fontsize="small")
    axis.locator_params(axis="x", integer=True)
    axis.grid(alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def plot_sweep(sweep: ParetoSweep, path: str | os.PathLike) -> None:
    """Draws the models of a sweep, for each pair of metrics.

    Args:
        sweep: A `keras_mtl.analysis.ParetoSweep`.
        path: Path of the picture.
    """
    plt = pyplot()
    pairs = list(itertools.combinations(sweep.signs, 2))
    figure, axes = plt.subplots(1, len(pairs), figsize=(1 + 3.6 * len(pairs), 4.0), layout="constrained", squeeze=False)
    beaten = [point for point in sweep.points if not point["on_front"]]
    for axis, (x, y) in zip(axes.flat, pairs, strict=True):
        signs = sweep.signs[x], sweep.signs[y]
        on_front = [(point[x], point[y]) for point in sweep.front]
        if beaten:
            axis.plot([p[x] for p in beaten], [p[y] for p in beaten], "o", color="0.7", label="beaten by another")
        axis.plot(*zip(*front_line(on_front, *signs), strict=True), "-", color=color(0), alpha=0.45, linewidth=1.2)
        axis.plot(*zip(*on_front, strict=True), "o", color=color(0), label="on the front, with its preference")
        for place, point in list(zip(on_front, sweep.front, strict=True))[:: 1 + len(on_front) // _NAMED]:
            preference = " : ".join(f"{share:.2g}" for share in point["preference"].values())
            axis.annotate(preference, place, (5, 4), textcoords="offset points", fontsize=7.5, color="0.2")
        for name, label in ((x, axis.set_xlabel), (y, axis.set_ylabel)):
            label(f"{name} ({'more' if sweep.signs[name] > 0 else 'less'} is better)", fontsize="small")
        axis.margins(0.15)
        axis.grid(alpha=0.3)
        better_corner(axis, *signs)
    tasks = " : ".join(sweep.points[0]["preference"])
    figure.suptitle(f"preferences: {tasks}", fontsize="small")
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small", frameon=False
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def better_corner(axis: Axes, sign_x: int, sign_y: int) -> None:
    """Draws an arrow into the corner where points are better in both."""
    corner = (0.985 if sign_x > 0 else 0.015, 0.985 if sign_y > 0 else 0.015)
    start = (corner[0] - 0.1 * sign_x, corner[1] - 0.1 * sign_y)
    arrow = {"arrowstyle": "-|>", "color": color(2), "linewidth": 1.8}
    axis.annotate("", corner, start, xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow)
    sides: dict[str, Any] = {"ha": "right" if sign_x > 0 else "left", "va": "top" if sign_y > 0 else "bottom"}
    axis.annotate("better", start, xycoords="axes fraction", fontsize=7.5, color=color(2), **sides)
