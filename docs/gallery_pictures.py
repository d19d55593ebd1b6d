"""Draws a picture for each card of the gallery, from the table on the page of its recipe in docs/guide/recipes/.

python docs/gallery_pictures.py

Two cards have another picture: that of `pareto_toy.py` is the recipe's own, runs/pareto_toy/cagrad.png, and that of
`omninet_tasks.py` is the one on its page.
"""

import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GUIDE = Path(__file__).parent / "guide"
MOST_ROWS = 12
GREY, BLUE, GREEN = "#777777", "#0072b2", "#009e73"
# Page, and what tells two pictures of one page apart: which of its tables, which column (or row, where models stand
# side by side), and what is shown.
SHOWN = {
    "active_sampling": (0, "Steps to 90 %", "steps to 90 % of the hard task"),
    "adapters": (0, "Command", "whole commands, %"),
    "ask": (0, "Gain, %", "gain, % (95 % interval)"),
    "census_income": (0, "Income", "income, AUC in %"),
    "chinese_text": (0, "delta_m, %", "gain, %"),
    "distill_digits": (0, "digit", "digit, %"),
    "distill_faces": (0, "smile", "smile, %"),
    "emoji": (0, "Group (8)", "group, %"),
    "faces": (0, "Smile", "smile, %"),
    "fair_income": (0, "DP", "gap between groups, % (lower is better)"),
    "gradnorm_toy": (0, "2 tasks", "error in units of the scales, 2 tasks (lower is better)"),
    "great_toy": (0, "Guessed in the last 300 steps, %", "task guessed, %"),
    "grouping_study": (0, "Within / between", "affinity within / between groups"),
    "home_commands": (0, "Intent", "intent, %"),
    "label_blocks": (0, "All known", "AUC × 100, all labels known"),
    "learned_molecules": (0, "delta_m, %", "gain, %"),
    "learned_sharing": (0, "Test MSE", "error (lower is better)"),
    "minigrid_policies": (0, "lava", "reward: lava"),
    "mmoe_study": (0, "Cosine 0", "loss, unrelated tasks (lower is better)"),
    "molecules": (0, "Mean of 12", "mean R² of 12 properties, %"),
    "movielens": (0, "Liked", "liked, AUC in %"),
    "multi_digits": (0, "delta_m, %", "gain, %"),
    "parity_curriculum": (0, "Of the hard task", "steps of the hard task"),
    "physics_informed": (0, "error of u (%)", "error, % (lower is better)"),
    "queries": (0, "Difference", "gain of training together"),
    "reward_shaping": (0, "Steps, first 10 episodes", "steps of the first episodes"),
    "search_faces": (0, "delta_m, %", "gain, %"),
    "search_sharing": (0, "best score", "score by number of shared stages"),
    "shapes_modules": (0, "New questions", "new questions, %"),
    "starved_task": (0, "Smile", "smile, %"),
    "support2": (0, "delta_m, %", "gain, %"),
    "task_grouping-yeast": (0, "delta_m, %", "gain, %"),
    "task_grouping-qm9": (1, "delta_m, %", "gain, %"),
    "task_grouping-faces": (2, "delta_m", "gain, %"),
    "task_wise_stopping": (0, "Error", "error (lower is better)"),
    "transfer_digits": (0, "50", "accuracy with 50 labels, %"),
    "two_rooms": (0, "Ratio", "steps, relative to a uniform policy"),
    "uncertainty_toy": (0, "Loud, learned", "learned noise of the loud task"),
    "watch_subjects": (0, "Exercise, strangers", "exercise of strangers, %"),
    "when_sharing_helps": (0, "Ratio", "error of the small task, relative to single-task"),
}
# Rows that the others are compared with, where that is not the first.
COMPARED_WITH = {
    "ask": (),
    "grouping_study": (),
    "learned_sharing": (5,),
    "molecules": (5,),
    "queries": (),
    "search_sharing": (),
    "shapes_modules": (1,),
    "task_grouping-faces": (2,),
    "task_grouping-qm9": (2,),
    "task_grouping-yeast": (2,),
    "two_rooms": (),
    "when_sharing_helps": (0, 6),
}


def tables(page):
    """Tables of a page as lists of rows, which are lists of cells."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    clean = [re.sub(r"[`*]", "", block).replace("−", "-").splitlines() for block in blocks]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])] for lines in clean
    ]


def number(text):
    """The first number of a text, or `None`."""
    found = re.search(r"[-+]?\d[\d,]*\.?\d*", text)
    return float(found[0].replace(",", "")) if found else None


def values(table, name):
    """Names, means and both ends of their spread, or of their 95 % intervals, of a column or of a row."""
    head, *rows = table
    if name in head:
        above = [row[0] for row in rows]
        for i, label in enumerate(above):
            above[i] = label or above[i - 1]
        # Two columns may say what a row is.
        words = head[1] != name and not any(re.match(r"[-+\d]", row[1]) for row in rows)
        labels = [f"{first}, {row[1]}" if words and row[1] else first for first, row in zip(above, rows, strict=True)]
        cells = [(label, row[head.index(name)]) for label, row in zip(labels, rows, strict=True)]
    else:
        cells = list(zip(head[1:], next(row for row in rows if row[0] == name)[1:], strict=True))
    ends = [row[head.index("95 % interval")] for row in rows] if "95 % interval" in head else [""] * len(cells)
    found = []
    for (label, cell), interval in zip(cells, ends, strict=True):
        if re.match(r"[-+]?\d", cell):
            mean, spread = number(cell), number((*cell.split("±"), "")[1]) or 0.0
            low, high = mean - spread, mean + spread
            if "±" not in cell and " to " in interval:
                low, high = map(number, interval.split(" to "))
            found.append((label, mean, low, high))
    return found[:MOST_ROWS]


def rows_of_dots(labels, title, width=4.4):
    """A figure whose rows have these labels, and its axis."""
    figure = Figure(figsize=(width, 0.75 + 0.27 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    short = [label if len(label) < 33 else label[:31].rstrip(" ,") + " …" for label in labels]
    axis.set_yticks(range(len(labels)), short, fontsize=8)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel(title, fontsize=8)
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return figure, axis


def draw(found, title, path, compared_with=(0,)):
    """Writes a picture of means with their spread; what the others are compared with is grey."""
    figure, axis = rows_of_dots([label for label, *_ in found], title)
    for i, (_, mean, low, high) in enumerate(found):
        color = GREY if i in compared_with else BLUE
        axis.plot([low, high], [i, i], color=color, linewidth=3)
        axis.plot(mean, i, "o", color=color, markersize=7)
    figure.savefig(path, dpi=100)


def picks(table):
    """Of each data set: its name, gains of the best way of the sweep and of sharing all, and of what was picked."""
    head, *rows = table
    best, shared, gain = (head.index(name) for name in ("Best of the sweep", "All shared", "Its gain"))
    found = []
    for row in rows:
        if row[0]:
            # No number stands beside "nothing shared", which is what the others are relative to.
            found.append((row[0].split(" (")[0], number(row[best]) or 0.0, number(row[shared]), []))
        found[-1][3].append(number(row[gain]))
    return found


def draw_picks(found, path):
    """Writes the picture of what `advise` picked, beside the best of a sweep and what shares all."""
    figure, axis = rows_of_dots([name for name, *_ in found], "gain over single-task models, %")
    figure.set_figheight(figure.get_figheight() + 0.5)
    axis.axvline(0, color="black", linewidth=1)
    for i, (_, best, shared, gains) in enumerate(found):
        axis.plot(shared, i, "s", color=GREY, markersize=7, label="all shared")
        axis.plot(best, i, "d", color=GREEN, markersize=13, fillstyle="none", label="best of the sweep")
        axis.plot(gains, [i] * len(gains), "o", color=BLUE, markersize=6, alpha=0.8, label="picked")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[:3], labels[:3], loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=100)


def main():
    """Writes the pictures."""
    folder = GUIDE / "images" / "gallery"
    folder.mkdir(exist_ok=True)
    for picture, (place, name, title) in SHOWN.items():
        page = (GUIDE / "recipes" / f"{picture.partition('-')[0]}.md").read_text("utf-8")
        found = values(tables(page)[place], name)
        draw(found, title, folder / f"{picture}.png", COMPARED_WITH.get(picture, (0,)))
    page = (GUIDE / "recipes" / "advise.md").read_text("utf-8")
    draw_picks(picks(next(table for table in tables(page) if "Its gain" in table[0])), folder / "advise.png")


if __name__ == "__main__":
    main()
