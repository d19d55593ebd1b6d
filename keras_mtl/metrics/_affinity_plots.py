"""Pictures of affinities."""

import numpy as np

from keras_mtl._pyplot import pyplot
from keras_mtl.metrics._clustering import tree

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
        groups: Integer. Number of groups, each in a color of its own.
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
