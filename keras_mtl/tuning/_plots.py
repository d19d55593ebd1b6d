"""Pictures of a search."""

import itertools

from keras_mtl.analysis._plots import pyplot


def plot_front(front, path):
    """Draws the trials of a search, and which are on the front.

    Args:
        front: A `keras_mtl.tuning.ParetoFront`.
        path: Path of the picture.
    """
    plt = pyplot()
    names = list(front.signs)
    costs = [cost for cost in ("parameters", "step_ms") if all(trial[cost] is not None for trial in front.trials)]
    panels = [*itertools.combinations(names, 2), *((cost, name) for cost in costs for name in names)]
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1 + 3.1 * columns, 0.9 + 2.9 * rows), layout="constrained")
    flat = axes.ravel() if len(panels) > 1 else [axes]
    for axis, (x, y) in zip(flat, panels, strict=False):
        _panel(axis, front, x, y)
    for axis in flat[len(panels) :]:
        axis.axis("off")
    handles, labels = flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axis, front, x, y):
    others = [trial for trial in front.trials if not trial["on_front"]]
    best = front.trials[0]
    axis.plot([t[x] for t in others], [t[y] for t in others], "o", color="0.7", markersize=4, label="beaten by another")
    on_front = [(trial[x], trial[y]) for trial in front.front]
    axis.plot(*zip(*on_front, strict=True), "o", color="C0", markersize=6, label="on the front")
    axis.plot(
        best[x], best[y], "o", color="none", markeredgecolor="C3", markersize=11, label=f"best {front.objective.name}"
    )
    axis.set_xlabel(_label(front, x))
    axis.set_ylabel(_label(front, y))
    if x == "parameters":
        axis.ticklabel_format(axis="x", style="sci", scilimits=(3, 3))
    axis.locator_params(axis="x", nbins=5)
    axis.grid(alpha=0.3)


def _label(front, name):
    words = {"parameters": "parameters", "step_ms": "ms per step"}
    if name in words:
        return words[name]
    return f"{name} ({'more' if front.signs[name] > 0 else 'less'} is better)"
