"""Pareto fronts: which points are on them, and how much they dominate."""

import math
from collections.abc import Sequence


def beats(other: Sequence[float], point: Sequence[float]) -> bool:
    """Whether a point is at least as good as another in everything, and better in something.

    Args:
        other: List of numbers of which more is better.
        point: List of as many.
    """
    if any(math.isnan(value) for value in other):
        return False
    return all(a >= b for a, b in zip(other, point, strict=True)) and other != point


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume that is dominated by some points, above a reference point.

    Exact, by slices along the last number; for a few numbers and some dozens of points.

    Args:
        points: List of lists of numbers of which more is better. What is not above the reference in every number
            adds nothing.
        reference: List of as many numbers.

    Returns:
        Float.

    Example:

    >>> from keras_mtl.analysis._fronts import hypervolume
    >>> hypervolume([[1.0, 3.0], [2.0, 1.0]], [0.0, 0.0])  # 3 + 1
    4.0
    """
    above = [list(p) for p in points if all(a > b for a, b in zip(p, reference, strict=True))]
    if not above:
        return 0.0
    if len(reference) == 1:
        return max(p[0] for p in above) - reference[0]
    volume, lower = 0.0, reference[-1]
    for height in sorted({p[-1] for p in above}):
        slab = [p[:-1] for p in above if p[-1] >= height]
        volume += (height - lower) * hypervolume(slab, reference[:-1])
        lower = height
    return volume


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
