"""Draws a picture for each card of the gallery, from the table of its recipe in docs/guide/recipes.md.

python docs/gallery_pictures.py
"""

import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

GUIDE = Path(__file__).parent / "guide"
MOST_ROWS = 12
# Section of recipes.md: which of its tables, which column (or row, where models stand side by side), and what is shown.
SHOWN = {
    "asked-first-genes-and-patients": (1, "delta_m, %", "gain, %: patients"),
    "faces-a-trunk-that-loses-the-smile": (0, "Smile", "smile, %"),
    "census-income-the-mmoe-papers-comparison": (0, "Income", "income, AUC in %"),
    "search-a-planted-sharing-depth": (0, "best score", "score by number of shared stages"),
    "search-two-kinds-of-tasks-on-faces": (0, "delta_m, %", "gain, %"),
    "a-differential-equation-three-losses-of-different-size": (0, "error of u (%)", "error, % (lower is better)"),
    "gates-of-their-own-on-made-up-tasks": (0, "Cosine 0", "loss, unrelated tasks (lower is better)"),
    "great-which-task-does-a-gradient-come-from": (0, "Guessed in the last 300 steps, %", "task guessed, %"),
    "a-watch-does-it-help-to-forget-who-is-who": (0, "Exercise, strangers", "exercise of strangers, %"),
    "a-trained-trunk-for-a-task-with-few-labels": (0, "50", "accuracy with 50 labels, %"),
    "two-rooms-a-policy-that-tasks-have-in-common": (0, "Ratio", "steps, relative to a uniform policy"),
    "shaping-what-may-be-added-to-a-reward": (0, "Steps, first 10 episodes", "steps of the first episodes"),
    "patients-tasks-with-gaps-in-their-labels": (0, "delta_m, %", "gain, %"),
    "hard-tasks-that-get-more-steps": (0, "Steps to 90 %", "steps to 90 % of the hard task"),
    "a-curriculum-the-part-before-the-whole": (0, "Of the hard task", "steps of the hard task"),
    "molecules-properties-of-very-different-scales": (0, "Mean of 12", "mean R² of 12 properties, %"),
    "films-a-funnel-in-the-entire-space": (0, "Liked", "liked, AUC in %"),
    "chinese-text-an-input-for-each-kind": (0, "delta_m, %", "gain, %"),
    "shapes-questions-that-were-never-asked": (0, "New questions", "new questions, %"),
    "emoji-pictures-and-names": (0, "Group (8)", "group, %"),
    "commands-for-a-home-a-pretrained-encoder": (0, "Intent", "intent, %"),
    "commands-for-a-home-adapters-and-merging": (0, "Command", "whole commands, %"),
    "queries-and-documents-by-letter-trigrams": (0, "Difference", "gain of training together"),
    "learned-sharing-planted-groups": (0, "Test MSE", "error (lower is better)"),
    "learned-sharing-molecules-at-equal-parameters": (0, "delta_m, %", "gain, %"),
    "a-task-that-starves-two-others": (0, "Smile", "smile, %"),
    "auxiliary-tasks-that-stop": (0, "Error", "error (lower is better)"),
    "planted-groups-which-measures-find-them": (0, "Within / between", "affinity within / between groups"),
    "yeast-groups-by-affinity-are-no-better-than-random-ones": (0, "delta_m, %", "gain, %"),
    "molecules-groups-spare-the-two-that-lose": (0, "delta_m, %", "gain, %"),
    "groups-of-faces-tasks": (0, "delta_m", "gain, %"),
    "environments-of-minigrid": (0, "lava", "reward: lava"),
    "distillation-digits": (0, "digit", "digit, %"),
    "distillation-faces": (0, "smile", "smile, %"),
    "fairness-census-income": (0, "DP", "gap between groups, % (lower is better)"),
}


def tables(section):
    """Tables of Markdown as lists of rows, which are lists of cells."""
    blocks = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    clean = [re.sub(r"[`*]", "", block).replace("−", "-").splitlines() for block in blocks]
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])] for lines in clean
    ]


def values(table, name):
    """Names, means and standard deviations of a column, or of a row."""
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
    found = []
    for label, cell in cells:
        numbers = re.match(r"([-+]?[\d,.]+)(?: ± ([\d.,]+))?", cell)
        if numbers:
            found.append((label, *(float((number or "0").replace(",", "")) for number in numbers.groups())))
    return found[:MOST_ROWS]


def draw(found, title, path):
    """Writes a picture of means with their standard deviations; the first, beside which others stand, in grey."""
    figure = Figure(figsize=(4.4, 0.75 + 0.27 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    for i, (_, mean, spread) in enumerate(found):
        color = "#0072b2" if i else "#777777"
        axis.plot([mean - spread, mean + spread], [i, i], color=color, linewidth=3)
        axis.plot(mean, i, "o", color=color, markersize=7)
    short = [label if len(label) < 33 else label[:31].rstrip(" ,") + " …" for label, *_ in found]
    axis.set_yticks(range(len(found)), short, fontsize=8)
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel(title, fontsize=8)
    axis.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.savefig(path, dpi=100)


def main():
    """Writes the pictures."""
    folder = GUIDE / "images" / "gallery"
    folder.mkdir(exist_ok=True)
    parts = re.split(r"^## (.*)$", (GUIDE / "recipes.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    for heading, section in zip(parts[::2], parts[1::2], strict=True):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        if anchor in SHOWN:
            number, name, title = SHOWN[anchor]
            draw(values(tables(section)[number], name), title, folder / f"{anchor}.png")


if __name__ == "__main__":
    main()
