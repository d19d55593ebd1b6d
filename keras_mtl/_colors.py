"""One palette for tasks, in all pictures."""

from __future__ import annotations

from keras_mtl._types import Tasks

# Okabe and Ito's colors without yellow and black, then those that stay farthest from all before them, also for eyes
# without red, green or blue cones.
COLORS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#780000"),
    *("#1e0f87", "#695a3c", "#b4c3a5", "#a569ff", "#000fd2", "#b42d87", "#4b0f4b"),
)


def color(index: int) -> str:
    """The color of number `index`. There are 14; then they begin again."""
    return COLORS[index % len(COLORS)]


def task_colors(tasks: Tasks) -> dict[str, str]:
    """Dict from each name to its color, in the order of the names."""
    return {task: color(i) for i, task in enumerate(tasks)}
