"""One rule for how masks and weights meet the values of a loss or metric, whatever their ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_mtl._keras_private import logits_beside, with_logits
from keras_mtl._types import Shape, Structure, Tensor


def static_shape(tensor: Tensor) -> Structure:
    """The shape as a tuple, with `None` where a size is unknown; `None` where even the rank is."""
    shape = getattr(tensor, "shape", ())
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def to_rank(tensor: Tensor, rank: int, what: str) -> Tensor:
    """Drops last axes of 1, or adds some, until the rank fits.

    Args:
        tensor: Tensor.
        rank: Integer. The rank that it shall have.
        what: String. What it is and whose, for the error.

    Returns:
        Tensor of that rank.

    Raises:
        ValueError: If a last axis in the way is not of size 1.
    """
    given = static_shape(tensor)
    while len(tensor.shape) > rank and tensor.shape[-1] == 1:
        tensor = ops.squeeze(tensor, axis=-1)
    if len(tensor.shape) > rank:
        raise ValueError(f"{what} should have at most {rank} axes here. Received: shape {given}")
    while len(tensor.shape) < rank:
        tensor = ops.expand_dims(tensor, axis=-1)
    return tensor


def aligned(y_true: Tensor, y_pred: Tensor) -> tuple:
    """Labels and predictions whose ranks differ by a last axis of 1, at one rank, as Keras aligns them."""
    given, predicted = len(y_true.shape), len(y_pred.shape)
    if given == predicted + 1 and y_true.shape[-1] == 1:
        return (y_true, y_pred[..., None]) if predicted == 1 else (ops.squeeze(y_true, axis=-1), y_pred)
    if predicted == given + 1 and y_pred.shape[-1] == 1:
        return (y_true[..., None], y_pred) if given == 1 else (y_true, without_last_axis(y_pred))
    return y_true, y_pred


def with_last_axis(y_pred: Tensor) -> Tensor:
    """Predictions with an axis of 1 behind, and with the logits that Keras keeps beside a sigmoid."""
    return _and_logits(y_pred, lambda tensor: tensor[..., None])


def without_last_axis(y_pred: Tensor) -> Tensor:
    """Predictions without their last axis of 1, and with the logits that Keras keeps beside a sigmoid."""
    return _and_logits(y_pred, lambda tensor: ops.squeeze(tensor, axis=-1))


def as_single_entries(y_pred: Tensor) -> Tensor:
    """Predictions whose entries are the examples: shape `(entries, 1, ..., 1)` of the same rank."""
    return _and_logits(y_pred, lambda tensor: ops.reshape(tensor, (-1, *[1] * (len(tensor.shape) - 1))))


def _and_logits(y_pred: Tensor, change: Callable[[Any], Any]) -> Tensor:
    changed, logits = change(y_pred), logits_beside(y_pred)
    return changed if logits is None else with_logits(changed, change(logits))


def folded_axes(positions: Shape, values: Shape, kept: tuple | None) -> tuple | None:
    """Which axes of the labels' positions the values do not have.

    Args:
        positions: Shape of the positions: those of the labels, or of a mask.
        values: Shape of the values of the loss.
        kept: `None`, or the axes of the positions that the values are known
            to keep. Else they are taken to be the first ones.

    Returns:
        Tuple of axes; `None` where the values' axes are not those of the
        positions.
    """
    if len(values) >= len(positions):
        pairs = list(zip(positions, values, strict=False))
        # An axis that the loss has kept with size 1 is folded, too.
        folded = tuple(axis for axis, (n, m) in enumerate(pairs) if axis and m == 1 and n != 1)
        fits = all(axis in folded or None in (n, m) or n in (1, m) for axis, (n, m) in enumerate(pairs))
        return folded if fits else None
    if kept is None or len(kept) != len(values):
        kept = tuple(range(len(values)))
    fits = all(None in (positions[axis], n) or positions[axis] in (1, n) for axis, n in zip(kept, values, strict=True))
    return tuple(axis for axis in range(len(positions)) if axis not in kept) if fits else None


def mask_of_values(mask: Tensor, values: Tensor, kept: tuple | None) -> Tensor | None:
    """A mask of positions as a mask of values: a value counts if any of the positions that it is of does.

    Args:
        mask: Boolean tensor. Sizes of 1 stand for any size.
        values: Tensor of rank 1 or more.
        kept: See `folded_axes`.

    Returns:
        Boolean tensor of the rank of `values`, or `None` where the axes do
        not belong together.
    """
    positions, shape = static_shape(mask), static_shape(values)
    folded = folded_axes(positions, shape, kept)
    if folded is None:
        return None
    if folded:
        mask = ops.any(mask, axis=folded, keepdims=len(shape) >= len(positions))
    return to_rank(mask, len(shape), "A mask")


def weight_of_values(weight: Tensor, values: Tensor, kept: tuple | None) -> Tensor | None:
    """A weight of positions as a weight of values, or `None` where it differs within what one value is of."""
    positions, shape = static_shape(weight), static_shape(values)
    folded = folded_axes(positions, shape, kept)
    if folded is None or any(positions[axis] != 1 for axis in folded):
        return None
    if len(shape) < len(positions):
        weight = ops.squeeze(weight, axis=folded) if folded else weight
    return to_rank(weight, len(shape), "A weight")
