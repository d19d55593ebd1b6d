"""A picture of who shares what."""

import numpy as np

from keras_mtl.models._coefficients import tied_stages
from keras_mtl.models._stage_graph import StageGraph

_STEP, _WIDTH, _HEIGHT = 1.6, 1.15, 0.5  # of the boxes, in the units of the drawing


def plot_sharing(model, path, x=None):
    """Draws a multi-task model's stages, whom they serve, and its coefficients.

    Every stage is a box with a band for each task that it serves, in the
    task's color; data flows from left to right. Lines are as strong as the
    coefficient with which a unit or gate takes what they bring, and red where
    it is negative; dotted lines tie the weights of columns. Below are the
    coefficients as tables: a row for each task, a column for each source.

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
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("`plot_sharing` needs matplotlib: `pip install matplotlib`.") from error
    palette = colormaps["tab10" if len(model.tasks) <= 10 else "tab20"]
    colors = {task: palette(i % palette.N) for i, task in enumerate(model.tasks)}
    graph = _PlacedGraph(model, x)
    tables = graph.tables(graph.coefficients)
    wide, high = graph.size
    rows = -(-len(tables) // 4)
    heights = [max(2.0, 0.85 * high + 0.6), *[0.7 + 0.32 * max(1, len(model.tasks))] * rows]
    figure = Figure(figsize=(max(7.0, 1.15 * wide), sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, 4, height_ratios=heights)
    _draw_graph(figure.add_subplot(grid[0, :]), graph, colors, model)
    for i, (title, table) in enumerate(tables.items()):
        _draw_table(figure.add_subplot(grid[1 + i // 4, i % 4]), title, *table)
    figure.savefig(path, dpi=150)


class _PlacedGraph(StageGraph):
    """Stages with places in the drawing."""

    def __init__(self, model, x):
        super().__init__(model)
        self.coefficients = self.read(x)
        self.weights = self.by_source(self.coefficients)
        self.ties = [
            (first, second)
            for stage in tied_stages(self.model)
            for first in [stage.name]
            for second in stage.partners[stage.partners.index(first) + 1 :][:1]
        ]
        self._place()

    def weight(self, stage, place):
        """The coefficient with which a stage takes its input number `place`."""
        given = self.weights.get(stage.name)
        if given is not None and len(given) == len(self.sources[stage.name]):
            return float(given[place])
        first = self.sources[stage.name][0]
        gate = self.weights.get(first[0].name) if first else None
        if place and gate is not None and len(gate) == len(self.sources[stage.name]) - 1:
            return float(gate[place - 1])
        return None

    def _place(self):
        depth = {}
        for stage in self.stages:  # in the order in which data passes them
            # What a shared stage takes from a later one, or from itself in another call, goes back.
            before = [depth[s.name] for group in self.sources[stage.name] for s in group if s.name in depth]
            depth[stage.name] = 1 + max(before, default=0)
        tasks = list(self.model.tasks)
        lanes = [*tasks[: len(tasks) // 2], "shared", *tasks[len(tasks) // 2 :]]
        cells = {}
        for stage in self.stages:
            cells.setdefault((self.owner(stage), depth[stage.name]), []).append(stage)
        heights = {lane: max((len(c) for (o, _), c in cells.items() if o == lane), default=0) for lane in lanes}
        tops, top = {}, 0
        for lane in lanes:
            tops[lane] = top
            top += heights[lane]
        self.places = {}
        for (lane, column), stages in cells.items():
            gap = (heights[lane] - len(stages)) / 2
            for i, stage in enumerate(stages):
                self.places[stage.name] = (_STEP * column, -(tops[lane] + gap + i))
        self.size = (_STEP * (1 + max(depth.values(), default=1)), top)


def _draw_graph(axes, graph, colors, model):
    from matplotlib.patches import FancyBboxPatch, Patch, Rectangle

    for stage in graph.stages:
        x, y = graph.places[stage.name]
        for place, group in enumerate(graph.sources[stage.name]):
            weight = graph.weight(stage, place)
            for source in group:
                x0, y0 = graph.places[source.name]
                if x0 >= x:
                    _draw_return(axes, (x0, y0), (x, y))
                    continue
                strength = 0.35 if weight is None else min(1.0, 0.08 + abs(weight))
                axes.plot(
                    [x0 + _WIDTH / 2, x - _WIDTH / 2],
                    [y0, y],
                    color="black" if weight is None or weight >= 0 else "firebrick",
                    linewidth=1.0 if weight is None else 0.4 + 2.2 * strength,
                    alpha=strength,
                    zorder=1,
                )
    for pair in graph.ties:
        (x, y0), (_, y1) = (graph.places[name] for name in pair)
        axes.plot([x, x], [y0, y1], color="dimgray", linestyle=":", linewidth=1.4, zorder=1)
    for stage in graph.stages:
        x, y = graph.places[stage.name]
        served = model.sharing.feeds(stage)
        corner = (x - _WIDTH / 2, y - _HEIGHT / 2)
        box = FancyBboxPatch(corner, _WIDTH, _HEIGHT, boxstyle="round,pad=0,rounding_size=0.1", zorder=2)
        box.set(facecolor="white", edgecolor="dimgray", linewidth=0.8)
        axes.add_patch(box)
        for i, task in enumerate(served):
            band = Rectangle(
                (corner[0] + _WIDTH * i / len(served), corner[1]), _WIDTH / len(served), _HEIGHT, color=colors[task]
            )
            band.set(alpha=0.45, zorder=3, linewidth=0)
            axes.add_patch(band)
            band.set_clip_path(box)
        axes.text(x, y, _label(stage), ha="center", va="center", fontsize=6.5, zorder=4)
    wide, high = graph.size
    axes.set(xlim=(_STEP - _WIDTH, wide - _STEP + _WIDTH), ylim=(-high + 0.3, 0.9), title=model.name)
    axes.set_axis_off()
    handles = [Patch(facecolor=color, alpha=0.45, label=task) for task, color in colors.items()]
    axes.legend(handles=handles, loc="upper left", ncols=min(6, len(handles)), fontsize=7, frameon=False)


def _draw_return(axes, start, end):
    """An arrow over the boxes, from a stage to one that is not behind it."""
    style = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={0.7 if start == end else 0.4}", "linestyle": "--"}
    start, end = ((x + dx, y + _HEIGHT / 2) for (x, y), dx in ((start, _WIDTH / 4), (end, -_WIDTH / 4)))
    axes.annotate("", xy=end, xytext=start, arrowprops={**style, "color": "dimgray", "alpha": 0.7, "shrinkA": 0})


def _label(stage):
    scope = getattr(stage, "scope", "").split("/")
    if len(scope) > 1:
        kind = {"units": "unit"}.get(scope[1], scope[1])
        if scope[1].startswith("expert"):
            kind = f"{scope[0]} {scope[1]}\n{stage.stack[0].name if len(stage.stack) == 1 else ''}"
        return kind.replace("_", " ").strip()
    root = scope[0]
    name = stage.name.removeprefix(f"{root}_") if root else stage.name
    return name if len(name) <= 16 else name[:15] + "…"


def _draw_table(axes, title, rows, columns, values):
    bound = max(1.0, float(np.nanmax(np.abs(values))))
    axes.imshow(values, cmap="RdBu", vmin=-bound, vmax=bound, aspect="auto")
    axes.set_title(title, fontsize=8)
    if len(columns) > 12:
        axes.set_xticks([0, len(columns) - 1], [columns[0], columns[-1]], fontsize=6)
    else:
        axes.set_xticks(range(len(columns)), columns, fontsize=6, rotation=30 if max(map(len, columns)) > 6 else 0)
    axes.set_yticks(range(len(rows)), rows, fontsize=6)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if values.size <= 60:
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(
                    j,
                    i,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if abs(value) > 0.6 * bound else "black",
                )
