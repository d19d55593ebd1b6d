"""Reading scores and groups from a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_integer
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers.gate import softmax
from keras_mtl.losses.names import loss_kind

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels

AMONG = (None, "positives", "negatives")


def check_groups_option(groups: int) -> int:
    """Raises where the number of groups is none."""
    return check_integer(groups, "groups", 2)


def check_among(among: str | None) -> str | None:
    """Raises where the examples to look at are not named well."""
    if among not in AMONG:
        raise ValueError(f"`among` should be one of {AMONG}. Received: among={among!r}")
    return among


def check_scores(
    what: str,
    task: str,
    loss: keras.losses.Loss | None,
    shape: Shape,
    from_logits: bool,
    class_id: int | None = None,
    labels: bool = False,
) -> None:
    """Raises where a task has no score for each example, or another scale.

    Args:
        what: String. The metric or penalty.
        task: String.
        loss: The task's `keras.losses.Loss`, or `None`.
        shape: Shape of the task's output.
        from_logits: Boolean. Whether the outputs are taken for logits.
        class_id: Integer or `None`.
        labels: Boolean. Whether labels have to be classes.
    """
    classes = 1 if len(shape) == 1 else shape[-1]
    if len(shape) > 2 or (classes > 1) != (class_id is not None):
        raise ValueError(
            f"{what} should be given to a task with one output for each example, or with several classes and "
            f"`class_id`. Received: task '{task}' with outputs of shape {shape} and class_id={class_id!r}"
        )
    if class_id is not None and not 0 <= class_id < classes:
        raise ValueError(
            f"`class_id` of {what} should be a class of task '{task}', from 0 to {classes - 1}. Received: {class_id!r}"
        )
    logits = getattr(loss, "from_logits", None)
    if logits is not None and bool(logits) != from_logits:
        raise ValueError(
            f"`from_logits` of {what} should be {bool(logits)}, as it is of the loss of task '{task}'. "
            f"Received: from_logits={from_logits}"
        )
    if labels and loss is not None and loss_kind(loss) == "regression":
        raise ValueError(
            f"{what} looks at examples by their class, so task '{task}' should be a classification. "
            f"Received: loss {type(loss).__name__}"
        )


def read_scores(
    y_true: Tensor, y_pred: Tensor, from_logits: bool, class_id: int | None = None
) -> tuple[Tensor, Tensor]:
    """The predictions as numbers, and the labels as 0 and 1.

    Args:
        y_true: Labels of shape `(n,)`, `(n, 1)` or, one-hot, `(n, C)`.
        y_pred: Predictions of shape `(n,)`, `(n, 1)` or `(n, C)`.
        from_logits: Boolean. Whether predictions are logits.
        class_id: Integer. Which of several classes is the positive one.

    Returns:
        Tuple of two float32 tensors of shape `(n,)`. Scores are probabilities
        where predictions are logits or probabilities.
    """
    y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, "float32")
    if class_id is None:
        scores = ops.reshape(y_pred, (-1,))
        scores = ops.sigmoid(scores) if from_logits else scores
        return scores, ops.cast(ops.reshape(y_true, (-1,)) > ops.cast(0.5, y_true.dtype), "float32")
    scores = (softmax(y_pred) if from_logits else y_pred)[:, class_id]
    if len(y_true.shape) == 2 and y_true.shape[-1] > 1:
        y_true = ops.argmax(y_true, axis=-1)
    positive = ops.equal(ops.reshape(y_true, (-1,)), ops.cast(class_id, y_true.dtype))
    return scores, ops.cast(positive, "float32")


def read_groups(column: Tensor, groups: int) -> Tensor:
    """Who belongs to which group.

    Args:
        column: Tensor of shape `(n,)` or `(n, 1)`: 0 to `groups - 1`, or
            something less than 0 or NaN where the group is unknown.
        groups: Integer. G.

    Returns:
        float32 tensor of shape `(n, G)` of 0 and 1.
    """
    column = ops.reshape(ops.cast(column, "float32"), (-1, 1))
    return ops.cast(ops.equal(column, ops.arange(groups, dtype="float32")), "float32")


def members(
    labels: Labels,
    column: Tensor,
    groups: int,
    from_logits: bool,
    class_id: int | None = None,
    among: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """A task's scores on a batch, and who counts in which group.

    Args:
        labels: `Labels` of the task.
        column: Tensor. The column of groups.
        groups: Integer. G.
        from_logits: Boolean.
        class_id: Integer or `None`.
        among: `None`, `"positives"` or `"negatives"`. Which labels count.

    Returns:
        Tuple of scores of shape `(n,)`, labels of shape `(n,)`, and a float32
        tensor of shape `(n, G)` of 0 and 1.
    """
    scores, positive = read_scores(labels.y_true, labels.y_pred, from_logits, class_id)
    belongs = read_groups(column, groups)
    if labels.mask is not None:
        belongs = belongs * ops.reshape(labels.mask, (-1, 1))
    if among is not None:
        belongs = belongs * (positive if among == "positives" else 1.0 - positive)[:, None]
    return scores, positive, belongs


def check_members(task: str, column: str, values: np.ndarray, groups: int) -> None:
    """Raises where a column of arrays is not one of groups that all have members.

    Args:
        task: String. The task that reads it.
        column: String. The column's name.
        values: Array or tensor.
        groups: Integer. G.
    """
    values = np.asarray(values)
    what = f"The column '{column}', which task '{task}' reads, "
    if values.dtype.kind not in "biuf" or values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        raise ValueError(
            f"{what}should have one number for each example. Received: an array of {values.dtype} of shape "
            f"{values.shape}"
        )
    values = values.ravel().astype("float64")
    known = values[values >= 0]  # NaN is not
    wrong = np.unique(known[~np.isin(known, np.arange(groups))])
    if len(wrong):
        raise ValueError(
            f"{what}should have the groups 0 to {groups - 1}, and less than 0 or NaN where the group is unknown. "
            f"Received: {wrong[:5].tolist()}"
        )
    empty = [group for group in range(groups) if not np.any(known == group)]
    if empty:
        raise ValueError(f"{what}should have members of all {groups} groups. Received: none of group {empty}")
