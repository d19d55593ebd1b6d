"""A plot of the objective against the budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._colors import color
from keras_mtl._pyplot import pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_mtl.analysis.grouping.grouping import Grouping


def plot_budgets(
    groupings: Mapping[str, Sequence[Grouping]] | Sequence[Grouping],
    path: str | os.PathLike,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Draws the objective, and the groups, against the budget.

    Args:
        groupings: List of `Grouping` of growing budget, or a dict from name to
            such a list.
        path: Path of a PNG, PDF or SVG file.
        baselines: Dict from name to a number, drawn as horizontal lines.
            Defaults to `None`.

    Raises:
        ValueError: If a grouping has no objective.
    """
    lines = groupings if isinstance(groupings, dict) else {"": list(groupings)}
    for name, of_line in lines.items():
        if not of_line or any(grouping.objective is None for grouping in of_line):
            raise ValueError(f"`groupings` should be of `group_tasks`, with objectives. Received: {name!r} {of_line}")
    plt = pyplot()
    first = next(iter(lines.values()))
    height = 3.2 + 0.25 * len(first[0].tasks)
    figure, (upper, lower) = plt.subplots(
        2, 1, figsize=(max(6.0, 0.9 * len(first) + 2), height), layout="constrained", height_ratios=[3, height - 3]
    )
    for index, (name, of_line) in enumerate(lines.items()):
        style = {"color": color(index), "markersize": 5, "label": name or None}
        upper.plot([g.budget for g in of_line], [g.objective for g in of_line], "o-", **style)
    for index, (name, value) in enumerate((baselines or {}).items()):
        upper.axhline(value, color="0.3", linestyle=("--", ":", "-.")[index % 3], linewidth=1, label=name)
    if len(lines) > 1 or baselines:
        upper.legend(fontsize="small", frameon=False)
    change = first[-1].objective - first[0].objective  # what a larger budget buys is better
    better = "" if not change or not first[-1].exact else " (more is better)" if change > 0 else " (less is better)"
    upper.set_ylabel(f"objective{better}", fontsize="small")
    upper.grid(alpha=0.3)
    budgets = [grouping.budget for grouping in first]
    steps = np.diff(budgets)
    if len(steps) and np.allclose(steps, steps[0]):  # then a budget's groups stand below it
        upper.set_xlim(budgets[0] - 0.5 * steps[0], budgets[-1] + 0.8 * steps[0])
        upper.set_xticks(budgets)
    _plot_groups(lower, first)  # type: ignore[arg-type]
    lower.set_xlabel("budget" + (f" ({next(iter(lines))})" if len(lines) > 1 else ""))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_groups(axis: Axes, groupings: Sequence[Grouping]) -> None:
    """One column for each budget: tasks of one letter and color are served by one network."""
    tasks = sorted(groupings[-1].tasks, key=lambda t: (groupings[-1].serves[t], t))
    colors = {}  # a group keeps its color from one budget to the next
    for x, grouping in enumerate(groupings):
        for place, group in enumerate(grouping.groups):
            shade = colors.setdefault(frozenset(group), color(len(colors)))
            for task in group:
                if task in tasks:
                    serves = grouping.serves.get(task) == place
                    shift = 0.0 if serves else 0.2 + 0.5 * place / len(grouping.groups)
                    box = {"boxstyle": "square,pad=0.25", "edgecolor": shade, "facecolor": shade if serves else "white"}
                    style = {"color": "white" if serves else shade, "fontsize": 8 if serves else 6, "weight": "bold"}
                    axis.text(x + shift, tasks.index(task), _letter(place), ha="center", va="center", bbox=box, **style)  # type: ignore[arg-type]
    axis.set_xticks(range(len(groupings)), [f"{grouping.budget:g}" for grouping in groupings])
    axis.set_xlim(-0.5, len(groupings) - 0.2)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_ylim(-0.7, len(tasks) - 0.3)
    axis.set_title(
        "a letter is a network: filled, it serves the task; small, the task trains there to help", fontsize="small"
    )


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)
