"""Pictures of a search."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl._colors import color
from keras_mtl._pyplot import pyplot
from keras_mtl._types import Tensor
from keras_mtl.analysis._fronts import front_line
from keras_mtl.analysis._plots import better_corner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_mtl.tuning.pareto import ParetoFront

_NAMED = 12  # trials on the front; of more, each third has its name, or fewer


def plot_front(front: ParetoFront, path: str | os.PathLike) -> None:
    """Draws the trials of a search, and which are on the front.

    Args:
        front: A `keras_mtl.tuning.ParetoFront`.
        path: Path of the picture.
    """
    plt = pyplot()
    names = list(front.signs)
    costs = [cost for cost in ("parameters", "step_ms") if all(trial[cost] is not None for trial in front.trials)]
    panels = [*itertools.combinations(names, 2), *((cost, name) for cost in costs for name in names)]
    panels = panels or [("trial", names[0])]  # one metric and no cost
    columns = len(panels) if len(panels) <= 4 else min((4, 3), key=lambda n: -len(panels) % n)
    rows = -(-len(panels) // columns)
    figure = plt.figure(figsize=(1.2 + 3.5 * columns, 1.0 + 3.2 * rows), layout="constrained")
    last = len(panels) - columns * (rows - 1)  # panels of a last row that is not full share its width
    grid = figure.add_gridspec(rows, columns * last)
    for i, (x, y) in enumerate(panels):
        row, column = divmod(i, columns)
        wide = last if row < rows - 1 else columns
        _panel(figure.add_subplot(grid[row, column * wide : (column + 1) * wide]), front, x, y)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panel(axis: Axes, front: ParetoFront, x: Tensor, y: str) -> None:
    place = {trial["trial"]: i + 1 for i, trial in enumerate(front.trials)}

    def points(trials: Sequence[Mapping[str, Any]]) -> list[tuple[int | Any, Any]]:
        return [(place[t["trial"]] if x == "trial" else t[x], t[y]) for t in trials]

    others = [trial for trial in front.trials if not trial["on_front"]]
    if others:
        axis.plot(*zip(*points(others), strict=True), "o", color="0.7", markersize=4, label="beaten by another trial")
    on_front = points(front.front)
    sign_x, sign_y = (front.signs.get(name, -1) for name in (x, y))
    if x != "trial":
        axis.plot(
            *zip(*front_line(on_front, sign_x, sign_y), strict=True), "-", color=color(0), alpha=0.45, linewidth=1.2
        )
    axis.plot(*zip(*on_front, strict=True), "o", color=color(0), markersize=6, label="on the front")
    best = points(front.trials[:1])[0]
    style: dict[str, Any] = {"color": "none", "markeredgecolor": color(1), "markersize": 12, "markeredgewidth": 1.6}
    axis.plot(*best, "o", label=f"best {front.objective.name}", **style)
    for (across, up), trial in list(zip(on_front, front.front, strict=True))[:: 1 + len(on_front) // _NAMED]:
        axis.annotate(
            trial["trial"].lstrip("0") or "0",
            (across, up),
            (5, 4),
            textcoords="offset points",
            fontsize=7.5,
            color="0.2",
        )
    axis.margins(0.12)
    axis.set_xlabel(_label(front, x), fontsize="small")
    axis.set_ylabel(_label(front, y), fontsize="small")
    if x == "parameters":
        axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    axis.locator_params(axis="x", nbins=5)
    axis.grid(alpha=0.3)
    if x != "trial":
        better_corner(axis, sign_x, sign_y)


def _label(front: ParetoFront, name: str) -> str:
    words = {
        "parameters": "parameters (less is better)",
        "step_ms": "ms per step (less is better)",
        "trial": "place by the objective",
    }
    if name in words:
        return words[name]
    return f"{name} ({'more' if front.signs[name] > 0 else 'less'} is better)"
