"""How a loss or metric function reads labels: the shapes that it takes, and how its values lie along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import losses as keras_losses
from keras import ops

from keras_mtl._types import Shape, Structure, Tensor
from keras_mtl.losses.alignment import static_shape
from keras_mtl.losses.names import OF_VECTORS, FunctionLoss, crossentropy, is_elementwise

_SIZES = (3, 5, 7, 11, 13, 17, 19)  # all different, so that an axis is known by its size


class LossAxes(NamedTuple):
    """What is known of a function `(y_true, y_pred) -> values`.

    Attributes:
        class_axis: Integer or `None`. The axis that a loss of Keras compares
            as a whole, such as that of classes.
        kept: Tuple or `None`. Axes of labels of the predictions' rank that the
            values keep; `None` where it is not known.
        averages: Boolean. Whether a value is the mean over the entries of its
            folded axes, so that the function can be asked for each entry.
        ignores_zeros: Boolean. Whether entries that are 0 in labels and
            predictions do not change a value, as in Dice.
        unlike: Boolean. Whether labels and predictions have positions of their
            own, as in CTC.
    """

    class_axis: int | None = None
    kept: tuple | None = None
    averages: bool = False
    ignores_zeros: bool = False
    unlike: bool = False

    def has_entries(self, rank: int) -> bool:
        """Whether there is a value for each entry of the last axis, or could be."""
        return self.averages or (self.kept is not None and rank - 1 in self.kept)


def axes_of_loss(loss: keras_losses.Loss, output_shape: Shape) -> LossAxes:
    """Finds how a task's loss goes along the axes.

    Args:
        loss: The loss.
        output_shape: Shape of the task's output.

    Returns:
        A `LossAxes`.
    """
    shape = tuple(output_shape) if len(output_shape) > 1 else (*output_shape, 1)
    if isinstance(loss, FunctionLoss) and loss.fn is crossentropy:
        if shape[-1] != 1:
            return LossAxes(class_axis=len(shape) - 1)
        return LossAxes(kept=_all_but(-1, len(shape)), averages=True)
    if isinstance(loss, keras_losses.SparseCategoricalCrossentropy):
        return LossAxes(class_axis=_class_axis_of_ids(loss, shape))
    if isinstance(loss, keras_losses.CTC):
        return LossAxes(unlike=True)
    if is_elementwise(loss):
        return LossAxes(kept=_all_but(getattr(loss, "axis", -1), len(shape)), averages=True)
    if isinstance(loss, OF_VECTORS) and hasattr(loss, "axis"):
        return LossAxes(class_axis=loss.axis % len(shape))
    axes = axes_of_function(loss.call, shape)
    if isinstance(loss, OF_VECTORS) and axes.kept is not None:
        folded = [axis for axis in range(len(shape)) if axis not in axes.kept]
        return LossAxes(class_axis=folded[0] if len(folded) == 1 else None)
    return axes


def _all_but(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(other for other in range(rank) if other != axis % rank)


def axes_of_function(function: Callable[..., Any], shape: Shape) -> LossAxes:
    """Finds how a function goes along axes by what it says of random numbers.

    A function that cannot take them, whatever it raises, is one of which nothing is
    known.

    Args:
        function: Function `(y_true, y_pred) -> values`.
        shape: Shape of the predictions, with the axis of examples.

    Returns:
        A `LossAxes`.
    """
    for sizes in ((2, *_SIZES[: len(shape) - 1]), (2, *(size or 3 for size in shape[1:]))):
        if len(sizes) != len(shape):
            continue
        rng = np.random.default_rng(0)
        y_true, y_pred = (rng.uniform(0.1, 0.9, sizes) for _ in range(2))
        values = _called(function, y_true, y_pred)
        if values is None or not np.all(np.isfinite(values)):
            continue
        kept = _kept_axes(values.shape, sizes)
        if kept is None and values.ndim:
            return LossAxes()
        return LossAxes(
            kept=kept,
            averages=bool(kept) and _averages(function, y_true, y_pred, values, kept),
            ignores_zeros=_ignores_zeros(function, y_true, y_pred, values, kept or ()),
        )
    return LossAxes()


def _called(function: Callable[..., Any], y_true: Tensor, y_pred: Tensor) -> np.ndarray | None:
    from keras_mtl.training.backends import core

    try:
        with core.outside_of_traces():
            arguments = (ops.convert_to_tensor(array.astype("float32")) for array in (y_true, y_pred))
            return ops.convert_to_numpy(function(*arguments)).astype("float64")
    except Exception:
        return None  # a function of the user's own, which may raise anything at numbers that are not its labels


def _kept_axes(shape: Shape, sizes: Shape) -> tuple | None:
    """The axes that values keep, also where they keep others with size 1."""
    if len(shape) == len(sizes):
        kept = tuple(axis for axis, size in enumerate(shape) if size == sizes[axis])
        return kept if all(size in (1, sizes[axis]) for axis, size in enumerate(shape)) else None
    if not shape:
        return None
    found = [sizes.index(size) if size in sizes else -1 for size in shape]
    return tuple(found) if found[0] == 0 and -1 not in found and found == sorted(set(found)) else None


def _averages(
    function: Callable[..., Any], y_true: Tensor, y_pred: Tensor, values: np.ndarray, kept: Structure
) -> bool:
    folded = tuple(axis for axis in range(y_true.ndim) if axis not in kept)
    if not folded:
        return False
    single = (-1, *[1] * (y_true.ndim - 1))
    entries = _called(function, y_true.reshape(single), y_pred.reshape(single))
    if entries is None or entries.size != y_true.size:
        return False
    means = entries.reshape(y_true.shape).mean(axis=folded)
    return bool(np.allclose(means.ravel(), values.ravel(), rtol=1e-4, atol=1e-6))


def _ignores_zeros(
    function: Callable[..., Any], y_true: Tensor, y_pred: Tensor, values: np.ndarray, kept: tuple[int, ...]
) -> bool:
    folded = [axis for axis in range(y_true.ndim) if axis not in kept]
    for axis in folded:
        y_true, y_pred = (np.concatenate([y, np.zeros_like(y)], axis=axis) for y in (y_true, y_pred))
    padded = _called(function, y_true, y_pred) if folded else None
    if padded is None or padded.shape != values.shape:
        return False
    return bool(np.allclose(padded, values, rtol=1e-4, atol=1e-6))


def _class_axis_of_ids(loss: keras.losses.Loss, shape: Shape) -> int:
    """The axis of classes in the predictions, under a loss whose labels are classes."""
    sizes = (2, *_SIZES[: len(shape) - 1])
    y_pred: Any = np.random.default_rng(0).uniform(0.1, 0.9, sizes)
    for axis in reversed(range(1, len(sizes))):
        rest = sizes[:axis] + sizes[axis + 1 :]
        values = _called(loss.call, np.zeros(rest), y_pred)
        if values is not None and values.shape == rest:
            return axis
    raise ValueError(
        f"The axis of classes of loss '{loss.name}' should be one that Keras can compute on this backend, such as the "
        f"last one. Received: predictions of shape {shape}. `keras.losses.CategoricalCrossentropy` takes axis=1 with "
        "one-hot labels; `keras.layers.Permute` in the head puts classes last"
    )


def check_label_shape(
    task: str, loss: keras.losses.Loss, axes: LossAxes | None, y_true: Tensor, y_pred: Tensor
) -> None:
    """Raises where a built-in loss would broadcast labels that do not belong to its predictions, or fail obscurely.

    A last axis of 1 may be there or not, as in Keras, unless it is the axis
    along which the loss compares vectors; what is unknown fits. Losses of the
    user's own take what they take.

    Args:
        task: String. The task.
        loss: `keras.losses.Loss`.
        axes: Its `LossAxes`.
        y_true: Labels of the task.
        y_pred: Predictions of the task.
    """
    y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
    given, predicted = static_shape(y_true), static_shape(y_pred)
    if given is None or predicted is None:
        return
    if isinstance(loss, keras_losses.SparseCategoricalCrossentropy):
        axis = axes.class_axis
        wanted = [predicted[:axis] + middle + predicted[axis + 1 :] for middle in ((), (1,))]  # type: ignore[operator]
    elif isinstance(loss, OF_VECTORS):
        wanted = [predicted, (*predicted, 1)]
    elif is_elementwise(loss):
        wanted = [predicted, (*predicted, 1)] + [predicted[:-1]] * (predicted[-1] == 1 and len(predicted) > 1)
    else:
        return
    if not any(_fits(given, one) for one in wanted):
        raise ValueError(
            f"The labels of task '{task}' should have the shape {wanted[0]} under loss {type(loss).__name__}, whose "
            f"predictions are of shape {predicted}. Received: labels of shape {given}"
        )


def _fits(given: Shape, wanted: Shape) -> bool:
    same_rank = len(given) == len(wanted)
    return same_rank and all(None in (n, m) or n == m for n, m in zip(given, wanted, strict=True))
