"""Pictures of affinities."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._colors import color
from keras_mtl._pyplot import pyplot
from keras_mtl.metrics._clustering import tree

if TYPE_CHECKING:
    from keras_mtl.metrics._affinity import Affinity

VALUES_UP_TO = 12  # tasks; above, a heat map has no numbers in it


def plot_affinity(affinity: Affinity, path: str | os.PathLike) -> None:
    """Draws a heat map: rows are sources, columns are targets.

    Args:
        affinity: `keras_mtl.analysis.Affinity`.
        path: Path of the picture.
    """
    plt = pyplot()
    tasks, count = affinity.tasks, len(affinity.tasks)
    size = min(2.6 + 0.5 * count, 16.0)
    figure, axis = plt.subplots(figsize=(size + 2.2, size + 0.8), layout="constrained")
    values = np.where(np.eye(count, dtype=bool), np.nan, affinity.values)  # a task's effect on itself dwarfs the others
    limit = float(np.nanmax(np.abs(values))) or 1.0
    axis.set_facecolor("0.85")
    image = axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
    if count <= 60:
        axis.set_xticks(range(count), tasks, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(count), tasks)
    axis.tick_params(length=0)
    if count <= VALUES_UP_TO:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                shade = "white" if abs(value) > 0.6 * limit else "black"
                axis.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=8, color=shade)
    alike, (helps, hurts) = affinity.is_symmetric, _words(affinity)
    axis.set_ylabel("task" if alike else "this task (row) ...")
    axis.set_xlabel("task" if alike else "... does this to that task (column)")
    axis.set_title(affinity.name, fontsize="medium", weight="bold")
    bar = figure.colorbar(image, shrink=0.85)
    bar.set_label(_unit(affinity), fontsize="small")
    bar.ax.set_title(helps, fontsize="small", color="#2166ac")
    bar.ax.set_xlabel(hurts, fontsize="small", color="#b2182b")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _words(affinity: Affinity) -> tuple[str, str]:
    """What the two ends of the scale mean."""
    return ("alike", "unlike") if affinity.is_symmetric else ("helps", "harms")


_UNITS = {
    "look-ahead affinity": "share of the target's loss that one step for the source takes off",
    "cosine of task gradients": "cosine, from -1 to 1",
    "association of labels": "association, from 0 to 1",
    "correlation of labels": "rank correlation, from -1 to 1",
    "similarity of features": "rank correlation of which examples are alike, from -1 to 1",
    "transfer affinity": "affinity of the transfer",
}


def _unit(affinity: Affinity) -> str:
    return next((unit for name, unit in _UNITS.items() if affinity.name.startswith(name)), affinity.name)


def plot_dendrogram(affinity: Affinity, path: str | os.PathLike, groups: int | None = None) -> None:
    """Draws the tree of average-linkage clustering.

    Args:
        affinity: Symmetric `keras_mtl.analysis.Affinity`.
        path: Path of the picture.
        groups: Integer. Number of groups to tell apart by color.
    """
    from matplotlib.ticker import MaxNLocator
    from scipy.cluster.hierarchy import dendrogram, fcluster

    links = tree(affinity)
    count = len(affinity.tasks)
    cut = None
    if groups is not None and 1 < groups < count:
        cut = float(links[count - groups - 1 : count - groups + 1, 2].mean())  # between the last merge and the next
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(5.6, max(2.6, min(0.3 * count + 1.5, 24))), layout="constrained")
    names = list(affinity.tasks) if count <= 100 else None
    of_group = None if cut is None else fcluster(links, groups, "maxclust")

    def shade(node: int) -> str:
        """Of its group's color, where all that a merge holds is of one."""
        inside = {of_group[leaf] for leaf in _leaves(links, node, count)} if of_group is not None else {0, 1}
        return color(int(inside.pop()) - 1) if len(inside) == 1 else "0.5"

    options = {"labels": names, "no_labels": names is None, "link_color_func": shade, "orientation": "left"}
    dendrogram(links, ax=axis, **options)
    if cut is not None:
        axis.axvline(cut, color="0.4", linestyle=":", linewidth=1.2)
        axis.annotate(
            f"{groups} groups", (cut, 0.93), (3, 0), ("data", "axes fraction"), "offset points", fontsize="small"
        )
    axis.set_xlim(1.04 * links[-1, 2], -0.03 * links[-1, 2])  # tasks that merge at 0 can be seen
    top = float(np.nanmax(affinity.values[~np.eye(count, dtype=bool)]))
    ticks = MaxNLocator(5).tick_values(top - links[-1, 2], top)
    ticks = [value for value in ticks if top - 1.04 * links[-1, 2] <= value <= top]
    axis.set_xticks([top - value for value in ticks], [f"{value:.4g}" for value in ticks])
    axis.set_xlabel(
        f"mean affinity at which groups join (most alike on the right)\n{_unit(affinity)}", fontsize="small"
    )
    axis.set_title(affinity.name, fontsize="medium", weight="bold")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _leaves(links: np.ndarray, node: float, count: int) -> list[int]:
    if node < count:
        return [int(node)]
    return [leaf for part in links[int(node) - count, :2] for leaf in _leaves(links, part, count)]
