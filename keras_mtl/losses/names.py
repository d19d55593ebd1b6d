"""Losses by name, as Keras' `compile` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import losses as keras_losses
from keras import ops

from keras_mtl._types import LossLike, Tensor

_CLASSIFICATION = (
    keras_losses.BinaryCrossentropy,
    keras_losses.BinaryFocalCrossentropy,
    keras_losses.CategoricalCrossentropy,
    keras_losses.CategoricalFocalCrossentropy,
    keras_losses.SparseCategoricalCrossentropy,
    keras_losses.KLDivergence,
    keras_losses.CategoricalHinge,
    keras_losses.Hinge,
    keras_losses.SquaredHinge,
)
# Losses that are a mean over the last axis, so that single entries can be masked.
_ELEMENTWISE = (
    keras_losses.BinaryCrossentropy,
    keras_losses.BinaryFocalCrossentropy,
    keras_losses.Hinge,
    keras_losses.SquaredHinge,
    keras_losses.Huber,
    keras_losses.LogCosh,
    keras_losses.MeanAbsoluteError,
    keras_losses.MeanAbsolutePercentageError,
    keras_losses.MeanSquaredError,
    keras_losses.MeanSquaredLogarithmicError,
    keras_losses.Poisson,
)

# Losses that compare vectors along an axis, such as that of classes: none of a vector's entries can be left out.
OF_VECTORS = (
    keras_losses.CategoricalCrossentropy,
    keras_losses.CategoricalFocalCrossentropy,
    keras_losses.CategoricalHinge,
    keras_losses.CosineSimilarity,
    keras_losses.KLDivergence,
)


class FunctionLoss(keras_losses.Loss):
    """A plain function `fn(y_true, y_pred)` as a `keras.losses.Loss`."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(name=getattr(fn, "__name__", "loss"))
        self.fn = fn

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.fn(y_true, y_pred)


def get_loss(identifier: LossLike, task: str) -> keras.losses.Loss:
    """Makes a `Loss` of what `compile(loss={task: ...})` was given.

    Args:
        identifier: String, `Loss`, config or function.
        task: String. The task, for messages.

    Returns:
        A `keras.losses.Loss`.
    """
    if identifier in ("crossentropy", "ce"):
        return FunctionLoss(crossentropy)
    try:
        loss = keras_losses.get(identifier)
    except ValueError as error:
        raise ValueError(f"The loss of task '{task}' should be a Keras loss. Received: {identifier!r}") from error
    if isinstance(loss, keras_losses.Loss):
        if loss.reduction in (None, "none"):
            raise ValueError(
                f"The loss of task '{task}' should reduce to a number: reduction='sum_over_batch_size', 'sum', 'mean' "
                f"or 'mean_with_sample_weight'. Received: reduction={loss.reduction!r}"
            )
        return loss
    if callable(loss):
        # A name such as "mse" gives a function; its class can mask single entries.
        return _loss_class_of(loss)() if _loss_class_of(loss) else FunctionLoss(loss)  # type: ignore[misc]
    raise ValueError(f"The loss of task '{task}' should be a Keras loss. Received: {identifier!r}")


def _loss_class_of(function: Callable[..., Any]) -> type[keras.losses.Loss] | None:
    """The built-in loss class of a built-in loss function, if there is one."""
    name = getattr(function, "__name__", "").replace("_", "")
    for attribute in dir(keras_losses):
        candidate = getattr(keras_losses, attribute)
        is_class = isinstance(candidate, type) and issubclass(candidate, keras_losses.Loss)
        if is_class and attribute.lower() == name and getattr(keras_losses, function.__name__, None) is function:
            return candidate
    return None


def loss_kind(loss: keras.losses.Loss) -> str:
    """`"classification"` or `"regression"`, told from a task's loss.

    Args:
        loss: A `keras.losses.Loss`.

    Returns:
        String.
    """
    named_so = isinstance(loss, FunctionLoss) and "crossentropy" in loss.name
    classification = named_so or isinstance(loss, _CLASSIFICATION)
    return "classification" if classification else "regression"


def is_elementwise(loss: keras.losses.Loss) -> bool:
    """Whether a loss is a mean over the entries of the last axis."""
    return isinstance(loss, _ELEMENTWISE)


def crossentropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Binary, categorical or sparse categorical crossentropy, as the shapes say."""
    kind = label_kind(y_true, y_pred)
    if kind == "sparse_categorical" and len(y_true.shape) == len(y_pred.shape):
        y_true = ops.squeeze(y_true, axis=-1)
    return getattr(keras_losses, f"{kind}_crossentropy")(y_true, y_pred)


def label_kind(y_true: Tensor, y_pred: Tensor) -> str:
    """`"binary"`, `"categorical"` or `"sparse_categorical"`, as the shapes say."""
    if y_pred.shape[-1] == 1:
        return "binary"
    if len(y_true.shape) < len(y_pred.shape) or y_true.shape[-1] == 1:
        return "sparse_categorical"
    return "categorical"
