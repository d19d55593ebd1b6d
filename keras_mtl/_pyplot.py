"""Matplotlib, where it is installed, and what pictures of Pareto fronts have in common."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_mtl._colors import color

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pyplot() -> ModuleType:
    """Pyplot without a display.

    Raises:
        ImportError: If matplotlib is not installed, with how to install it.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install matplotlib") from error
    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def front_line(points: Sequence[tuple[float, float]], sign_x: int, sign_y: int) -> list[tuple[float, float]]:
    """The line of what no point is beyond, through those that are best in these two.

    Args:
        points: List of pairs.
        sign_x: Integer. 1 if more is better of the first number, else -1.
        sign_y: Integer. The same for the second number.
    """
    corners, highest = [], None
    for x, y in sorted(points, key=lambda point: (-sign_x * point[0], -sign_y * point[1])):
        if highest is not None and sign_y * y <= sign_y * highest:
            continue
        corners += [(x, highest), (x, y)] if highest is not None else [(x, y)]
        highest = y
    return corners


def better_corner(axis: Axes, sign_x: int, sign_y: int) -> None:
    """Draws an arrow into the corner where points are better in both."""
    corner = (0.985 if sign_x > 0 else 0.015, 0.985 if sign_y > 0 else 0.015)
    start = (corner[0] - 0.1 * sign_x, corner[1] - 0.1 * sign_y)
    arrow = {"arrowstyle": "-|>", "color": color(2), "linewidth": 1.8}
    axis.annotate("", corner, start, xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow)
    sides: dict[str, Any] = {"ha": "right" if sign_x > 0 else "left", "va": "top" if sign_y > 0 else "bottom"}
    axis.annotate("better", start, xycoords="axes fraction", fontsize=7.5, color=color(2), **sides)
