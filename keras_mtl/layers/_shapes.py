"""Checks of the shapes of tensors that are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Structure, Tensor


def check_same_shape(shapes: Sequence[Sequence[int | None]], what: str) -> Sequence[Any]:
    """Raises where tensors that are to be mixed differ in shape.

    Args:
        shapes: List of shapes, one for each tensor.
        what: String. Who mixes them, for the message.

    Returns:
        The one shape, as a tuple.
    """
    nested = not isinstance(shapes, (list, tuple)) or not all(isinstance(shape, (list, tuple)) for shape in shapes)
    if nested or any(isinstance(size, (list, tuple)) for shape in shapes for size in shape):
        raise ValueError(f"{what} should take a list of tensors, one from each column. Received: shapes {shapes}")
    shapes = [tuple(shape) for shape in shapes]
    if len(set(shapes)) != 1:
        raise ValueError(f"{what} should take tensors of one shape. Received: shapes {shapes}")
    if shapes[0][-1] is None:
        raise ValueError(f"{what} should take tensors whose last axis has a known size. Received: shapes {shapes}")
    return shapes[0]


def check_self_weight(self_weight: float, index: int) -> tuple[float, int]:
    """Raises where a unit's `self_weight` or `index` makes no sense.

    Returns:
        Tuple of the two, as a `float` and an `int`.
    """
    return check_number(self_weight, "self_weight"), check_integer(index, "index")


def stitch_weights(self_weight: float, index: int, count: int) -> list[float]:
    """Start of a unit: `self_weight` for its own column, the rest shared equally.

    Returns:
        List of `count` floats that sum to 1.
    """
    if count == 1:
        return [1.0]
    other = (1.0 - self_weight) / (count - 1)
    return [float(self_weight) if i == index else other for i in range(count)]


def first_mask(mask: Structure | None, index: int = 0) -> Tensor | None:
    """The mask of a mixture of tensors: that of tensor `index`, or the first one."""
    if not isinstance(mask, (list, tuple)):
        return mask
    return mask[index] if mask[index] is not None else next((m for m in mask if m is not None), None)
