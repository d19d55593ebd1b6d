"""Draws what README.md and the gallery show, from tables: of docs/guide/recipes/faces.md and docs/guide/gallery.md.

python docs/front_picture.py
"""

import io
import math
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

import keras_mtl

HERE = Path(__file__).parent
SEEDS = 3
ROWS = (
    "hard sharing",
    "hard + uncertainty",
    "hard + IMTL-G, features",
    "2 stages shared",
    "1 stage shared",
    "cross-stitch",
)


def gains():
    """Mean and standard deviation of delta_m by model, as the table on faces has them."""
    page = (HERE / "guide" / "recipes" / "faces.md").read_text()
    table = next(block for block in page.split("\n\n") if block.startswith("|"))
    found = {}
    for line in table.replace("−", "-").replace("*", "").splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0]] = tuple(map(float, re.split(" ± ", cells[-1])))
    return found


def interval(mean, spread, alone):
    """Welch's 95 % interval of the difference to single-task models, from means and standard deviations."""
    parts = (spread**2 / SEEDS, alone**2 / SEEDS)
    freedom = sum(parts) ** 2 / sum(part**2 / (SEEDS - 1) for part in parts)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts))
    return mean - half, mean + half


def sharing():
    """The picture of faces' model with one shared stage."""
    sys.path.insert(0, str(HERE.parent / "recipes"))
    from faces import MODELS, build

    builder, options, _ = MODELS["1 stage shared"]
    model = build(builder, options)
    buffer = io.BytesIO()
    keras_mtl.plot_sharing(model, buffer)
    return Image.open(buffer)


def all_studies():
    """Writes docs/guide/images/forest.png: gains of all studies, from the gallery's table."""
    rows = []
    for line in (HERE / "guide" / "gallery.md").read_text().replace("−", "-").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.match(r"[-+]?\d", cells[2]):
            rows.append((re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cells[0]), cells[1], *map(float, cells[2:])))
    figure = Figure(figsize=(6.8, 0.8 + 0.42 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    for i, (_, _, mean, low, high) in enumerate(rows):
        color = "#d55e00" if high < 0 else "#009e73" if low > 0 else "#555555"
        axis.plot([low, high], [i, i], color=color, linewidth=3)
        axis.plot(mean, i, "D", color=color, markersize=7)
        axis.text(1.01, i, f"{mean:+g}", transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.axvline(0, color="black", linewidth=1)
    axis.set_xscale("symlog", linthresh=10)  # small gains and large losses on one axis
    axis.set_xticks([-100, -30, -10, -5, 0, 5, 10, 30], ["-100", "-30", "-10", "-5", "0", "5", "10", "30"])
    axis.set_yticks(
        range(len(rows)), [f"{study}:\n{shared.replace('`', '')}" for study, shared, *_ in rows], fontsize=9
    )
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(
        "gain over single-task models, % (delta_m, 95 % interval)\nlinear within ±10, logarithmic beyond", fontsize=9
    )
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(HERE / "guide" / "images" / "forest.png", dpi=130)


def main():
    """Writes the pictures."""
    all_studies()
    above, found = sharing(), gains()
    # One above the other: pages are half as wide as both side by side, and text has to stay readable.
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    picture, forest = (part.add_subplot() for part in figure.subfigures(2, 1, height_ratios=[1.25, 1]))
    picture.imshow(above, interpolation="lanczos")
    picture.set_axis_off()
    for i, name in enumerate(ROWS):
        mean, spread = found[name]
        low, high = interval(mean, spread, found["single-task"][1])
        color = "#d55e00" if high < 0 else "#009e73" if low > 0 else "#555555"
        forest.plot([low, high], [i, i], color=color, linewidth=3)
        forest.plot(mean, i, "D", color=color, markersize=7)
    forest.axvline(0, color="black", linewidth=1)
    forest.set_yticks(range(len(ROWS)), ROWS, fontsize=10)
    forest.set_ylim(len(ROWS) - 0.5, -0.5)
    forest.set_xlabel("gain over single-task models, % (delta_m, 95 % interval, 3 seeds)", fontsize=10)
    forest.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        forest.spines[side].set_visible(False)
    figure.savefig(HERE / "guide" / "images" / "front.png", dpi=150)


if __name__ == "__main__":
    main()
