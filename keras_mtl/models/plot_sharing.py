"""A plot of what tasks share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._colors import task_colors
from keras_mtl._types import Structure
from keras_mtl.models._placed_graph import BOX, STEP, PlacedGraph, box_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_mtl.models.multi_task_model import MultiTaskModel

_BAND = 0.13  # height of the colors of those who are served, in a box


def plot_sharing(model: MultiTaskModel, path: str | os.PathLike, x: Structure | None = None) -> None:
    """Draws a multi-task model's stages, whom they serve, and its coefficients.

    Data flows from left to right, from the inputs to the heads. Every stage
    is a box with its name, its number of parameters, and a band of the colors
    of the tasks that it serves; a lane on grey is what belongs to one task,
    or to all. Arrows are as thick as the coefficient with which a unit or gate
    takes what they bring, and red where it is negative; dotted lines tie the
    weights of columns. Below are the coefficients as tables.

    Args:
        model: A `keras_mtl.MultiTaskModel`.
        path: String or `pathlib.Path`. Where the picture goes, such as
            `"sharing.png"`; the ending says the format.
        x: Inputs as `predict` takes them, for gates and masks that depend on
            the example. Defaults to `None`: these are drawn without
            coefficients.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> model = keras_mtl.cross_stitch(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, name="fc")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> keras_mtl.plot_sharing(model, "sharing.png")  # doctest: +SKIP
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("`plot_sharing` needs matplotlib: `pip install matplotlib`.") from error
    colors = task_colors(model.tasks)
    graph = PlacedGraph(model, x)
    tables = graph.tables(graph.coefficients)
    wide, high = graph.size
    size = max(9.0, 1.05 * wide)
    beside = 3 if size < 14 else 4  # tables in a row
    rows = -(-len(tables) // beside)
    heights = [0.62 * high + 0.9, *[0.8 + 0.3 * max(2, len(model.tasks))] * rows]
    figure = Figure(figsize=(size, sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, beside, height_ratios=heights)
    _draw_graph(figure.add_subplot(grid[0, :]), graph, colors, model)
    for i, (title, table) in enumerate(tables.items()):
        _draw_table(figure.add_subplot(grid[1 + i // beside, i % beside]), title, *table)
    figure.savefig(path, dpi=150)


def _draw_graph(axes: Axes, graph: PlacedGraph, colors: Mapping[str, Any], model: MultiTaskModel) -> None:
    for i, (lane, (top, bottom)) in enumerate(graph.lanes.items()):
        _draw_lane(axes, graph, lane, top, bottom, colors, shaded=i % 2 == 0)
    for arrow in graph.arrows:
        _draw_arrow(axes, graph, *arrow)
    for pair in graph.ties:
        (x, y0), (_, y1) = (graph.places[name] for name in pair)
        axes.plot([x, x], [y0, y1], color="dimgray", linestyle=":", linewidth=1.4, zorder=1)
    for name, shape in graph.inputs.items():
        called = name.removeprefix("input/")
        called = "input" if called.startswith("input_layer") else called
        _draw_box(axes, graph.places[name], [called, shape], (), colors)
    labels = graph.labels()
    for stage in graph.stages:
        text = [*labels[stage.name], _count(stage.count_params())]
        _draw_box(axes, graph.places[stage.name], text, model.sharing.feeds(stage), colors)
    wide, high = graph.size
    axes.set(xlim=(-1.1 * STEP, wide - 0.2 * STEP), ylim=(-high - (0.55 if graph.weights else 0.1), 0.1))
    axes.set_axis_off()
    shared = sum(int(np.prod(v.shape)) for v in model.sharing.weights_of())
    total = model.count_params()
    name = "" if model.name.startswith("multi_task_model") else f"{model.name}: "  # Keras' own name says nothing
    axes.set_title(f"{name}{total:,} parameters, of which {shared:,} serve more than one task", fontsize=11)
    if graph.weights:
        _draw_widths(axes, high, any(weight is not None and weight < 0 for *_, weight in graph.arrows))


def _draw_lane(
    axes: Axes,
    graph: PlacedGraph,
    lane: tuple[str, ...],
    top: float,
    bottom: float,
    colors: Mapping[str, Any],
    shaded: bool,
) -> None:
    from matplotlib.patches import Rectangle

    wide, _ = graph.size
    if shaded:
        band = Rectangle((-0.45 * STEP, bottom), wide + 0.25 * STEP, top - bottom, color="0.955")
        band.set(zorder=0, linewidth=0)
        axes.add_patch(band)
    middle, shown = (top + bottom) / 2, [task for task in lane if task in colors]
    text = "shared by all" if lane == tuple(graph.model.tasks) and len(lane) > 1 else " + ".join(lane)
    text = text if len(text) <= 22 else f"{len(lane)} tasks" if len(lane) > 1 else text[:21] + "…"
    axes.text(-0.52 * STEP, middle, text, ha="right", va="center", fontsize=8.5, weight="bold")
    high = min(0.6, top - bottom - 0.2)
    for i, task in enumerate(shown):
        corner = (-0.49 * STEP, middle + high / 2 - high * (i + 1) / len(shown))
        axes.add_patch(Rectangle(corner, 0.09, high / len(shown), color=colors[task], linewidth=0, zorder=2))


def _draw_arrow(axes: Axes, graph: PlacedGraph, source: str, target: str, weight: float | None) -> None:
    (x0, y0), (x1, y1) = graph.places[source], graph.places[target]
    color = "0.45" if weight is None else "black" if weight >= 0 else "firebrick"
    width = 0.9 if weight is None else 0.3 + 3.7 * min(1.0, abs(weight))
    style: dict[str, object] = {"arrowstyle": f"-|>,head_length={0.3 + 0.04 * width},head_width={0.13 + 0.04 * width}"}
    style.update(color=color, linewidth=width, shrinkA=0, shrinkB=0, alpha=0.8, zorder=1)
    if x0 >= x1:  # back, over the boxes
        style.update(connectionstyle=f"arc3,rad={0.7 if source == target else 0.4}", linestyle="--", color="0.45")
        start, end = (x0 + BOX / 4, y0 + box_height() / 2), (x1 - BOX / 4, y1 + box_height() / 2)
    else:
        start, end = (x0 + BOX / 2, y0), (x1 - BOX / 2, y1)
        if graph.is_blocked(source, target):
            style["connectionstyle"] = f"arc3,rad={-0.9 / (x1 - x0):.3f}"
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def _draw_box(
    axes: Axes, place: tuple[float, float], text: Sequence[str], served: Sequence[str], colors: Mapping[str, Any]
) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    high = box_height()
    corner = (place[0] - BOX / 2, place[1] - high / 2)
    box = FancyBboxPatch(corner, BOX, high, boxstyle="round,pad=0,rounding_size=0.08", zorder=2)
    box.set(facecolor="white", edgecolor="0.35", linewidth=0.9)
    axes.add_patch(box)
    for i, task in enumerate(served):
        band = Rectangle((corner[0] + BOX * i / len(served), corner[1]), BOX / len(served), _BAND, color=colors[task])
        band.set(zorder=3, linewidth=0)
        axes.add_patch(band)
        band.set_clip_path(box)
    *lines, count = text
    middle = place[1] + (_BAND / 2 if served else 0)
    style: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    axes.text(place[0], middle + 0.09, "\n".join(lines), fontsize=6.8, linespacing=1, **style)
    axes.text(place[0], middle - 0.2, count, fontsize=5.8, color="0.35", **style)


def _draw_widths(axes: Axes, high: float, negative: bool) -> None:
    """What the thickness of arrows means."""
    x, y = -0.4 * STEP, -high - 0.32
    axes.text(x, y, "coefficient:", va="center", fontsize=7.5)
    for i, weight in enumerate([0.1, 0.5, 1.0, *([-0.5] if negative else [])]):
        left = x + 1.05 + 1.0 * i
        axes.plot(
            [left, left + 0.45],
            [y, y],
            color="black" if weight > 0 else "firebrick",
            linewidth=0.3 + 3.7 * abs(weight),
            alpha=0.8,
            solid_capstyle="butt",
        )
        axes.text(left + 0.5, y, f"{weight:g}", va="center", fontsize=7.5)


def _count(count: int) -> str:
    if count == 0:
        return ""
    if count < 1_000_000:
        return f"{count:,} parameters" if count < 100_000 else f"{count / 1e3:.0f}k parameters"
    return f"{count / 1e6:.1f}M parameters"


def _draw_table(axes: Axes, title: str, rows: Sequence[str], columns: Sequence[str], values: np.ndarray) -> None:
    bound = max(1.0, float(np.nanmax(np.abs(values))))
    axes.imshow(values, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
    kind, _, of = title.partition("/")
    if kind == "distance":
        axes.set_title(f"distance of weights, {of}", fontsize=8.5)
    else:
        axes.set_title(f"{title.replace('/', ', ').replace('_', ' ')}: row takes of column", fontsize=8.5)
    if len(columns) > 12:
        axes.set_xticks([0, len(columns) - 1], [columns[0], columns[-1]], fontsize=6.5)
    else:
        long = max(map(len, columns)) * len(columns) > 36
        turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
        axes.set_xticks(range(len(columns)), columns, fontsize=6.5, **turned)  # type: ignore[arg-type]
    axes.set_yticks(range(len(rows)), rows, fontsize=6.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if values.size > 60:
        return
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            light = "white" if abs(value) > 0.6 * bound else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=light)
