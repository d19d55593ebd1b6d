"""Pictures of affinities and of what a budget buys."""

import numpy as np

from keras_mtl.analysis._plots import pyplot
from keras_mtl.analysis.grouping._clustering import tree

VALUES_UP_TO = 12  # tasks; above, a heat map has no numbers in it


def plot_affinity(affinity, path):
    """Draws a heat map: rows are sources, columns are targets.

    Args:
        affinity: `keras_mtl.analysis.Affinity`.
        path: Path of the picture.
    """
    plt = pyplot()
    count = len(affinity.tasks)
    size = min(3.0 + 0.5 * count, 16.0)
    figure, axis = plt.subplots(figsize=(size + 1, size), layout="constrained")
    values = np.where(np.eye(count, dtype=bool), np.nan, affinity.values)  # a task's effect on itself dwarfs the others
    limit = float(np.nanmax(np.abs(values))) or 1.0
    axis.set_facecolor("0.85")
    image = axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
    if count <= 60:
        axis.set_xticks(range(count), affinity.tasks, rotation=45, ha="right")
        axis.set_yticks(range(count), affinity.tasks)
    if count <= VALUES_UP_TO:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = "white" if abs(value) > 0.6 * limit else "black"
                axis.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=8, color=color)
    axis.set_ylabel("helps ...")
    axis.set_xlabel("... this task")
    axis.set_title(affinity.name)
    figure.colorbar(image)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_dendrogram(affinity, path, groups=None):
    """Draws the tree of average-linkage clustering.

    Args:
        affinity: Symmetric `keras_mtl.analysis.Affinity`.
        path: Path of the picture.
        groups: Integer. Number of groups to tell apart by color.
    """
    from scipy.cluster.hierarchy import dendrogram

    links = tree(affinity)
    count = len(affinity.tasks)
    cut = None
    if groups is not None and 1 < groups < count:
        cut = float(links[count - groups - 1 : count - groups + 1, 2].mean())  # between the last merge and the next
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(max(5.0, min(0.35 * count + 2, 24)), 4), layout="constrained")
    options = {} if cut is None else {"color_threshold": cut}
    names = list(affinity.tasks) if count <= 100 else None
    dendrogram(links, labels=names, no_labels=names is None, ax=axis, above_threshold_color="0.5", **options)
    if cut is not None:
        axis.axhline(cut, color="0.5", linestyle=":", linewidth=1)
    plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axis.set_ylim(bottom=-0.03 * links[-1, 2])  # tasks that merge at 0 can be seen
    axis.set_ylabel("largest affinity less theirs")
    axis.set_title(affinity.name)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_budgets(groupings, path, baselines=None):
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
    for name, of_line in lines.items():
        upper.plot([g.budget for g in of_line], [g.objective for g in of_line], "o-", label=name or None, markersize=4)
    for index, (name, value) in enumerate((baselines or {}).items()):
        upper.axhline(value, color="0.3", linestyle=("--", ":", "-.")[index % 3], linewidth=1, label=name)
    if len(lines) > 1 or baselines:
        upper.legend(fontsize="small")
    upper.set_ylabel("objective")
    budgets = [grouping.budget for grouping in first]
    steps = np.diff(budgets)
    if len(steps) and np.allclose(steps, steps[0]):  # then a budget's groups stand below it
        upper.set_xlim(budgets[0] - 0.5 * steps[0], budgets[-1] + 0.8 * steps[0])
        upper.set_xticks(budgets)
    _plot_groups(lower, first)
    lower.set_xlabel("budget" + (f" ({next(iter(lines))})" if len(lines) > 1 else ""))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _plot_groups(axis, groupings):
    """One column for each budget: tasks of one color are served by one network."""
    tasks = sorted(groupings[-1].tasks, key=lambda t: (groupings[-1].serves[t], t))
    colors = {}  # a group keeps its color from one budget to the next
    for x, grouping in enumerate(groupings):
        for place, group in enumerate(grouping.groups):
            color = colors.setdefault(frozenset(group), f"C{len(colors) % 10}")
            for task in group:
                if task in tasks:
                    serves = grouping.serves.get(task) == place
                    options = {"color": color} if serves else {"facecolors": "none", "edgecolors": color}
                    shift = 0.0 if serves else 0.15 + 0.5 * place / len(grouping.groups)
                    axis.scatter(x + shift, tasks.index(task), s=60 if serves else 18, marker="s", **options)
    axis.set_xticks(range(len(groupings)), [f"{grouping.budget:g}" for grouping in groupings])
    axis.set_xlim(-0.5, len(groupings) - 0.2)
    axis.set_yticks(range(len(tasks)), tasks)
    axis.set_ylim(-0.7, len(tasks) - 0.3)
    axis.set_title("one color: served by one network; small: trained there to help", fontsize="small")
