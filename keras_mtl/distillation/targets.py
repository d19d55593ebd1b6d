"""Soft targets: outputs at a temperature, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import losses as keras_losses
from keras import ops

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers.gate import softmax
from keras_mtl.losses.names import FunctionLoss, is_elementwise

_CATEGORICAL = (keras_losses.CategoricalCrossentropy, keras_losses.SparseCategoricalCrossentropy)
_SMALLEST = 1e-7


def target_kind(loss: keras.losses.Loss, shape: Shape, task: str) -> str:
    """How a task is distilled, told from its loss.

    Args:
        loss: The task's `keras.losses.Loss`.
        shape: Shape of the task's output.
        task: String. The task, for messages.

    Returns:
        `"binary"`, `"categorical"` or `"regression"`.
    """
    if isinstance(loss, keras_losses.BinaryCrossentropy):
        return "binary"
    if isinstance(loss, _CATEGORICAL):
        return "categorical"
    if isinstance(loss, FunctionLoss) and loss.name == "crossentropy":
        return "binary" if shape[-1] == 1 else "categorical"
    if is_elementwise(loss) and not isinstance(loss, keras_losses.BinaryFocalCrossentropy):
        return "regression"
    raise ValueError(
        f"The loss of task '{task}' should be a crossentropy, or a regression loss of Keras, to learn from a teacher. "
        f"Received: {loss.name if isinstance(loss, FunctionLoss) else type(loss).__name__}"
    )


def soft_targets(
    outputs: Sequence[Tensor], kind: str, temperature: float = 1.0, from_logits: bool | Sequence[bool] = False
) -> Tensor:
    """What several teachers say on average, softened.

    `1/M sum_m softmax(z_m / T)` for logits `z_m` of classes, the same with the logistic function for
    binary labels, and the mean output for a regression, which has no temperature.

    Args:
        outputs: List of the teachers' outputs, of equal shape.
        kind: `"binary"`, `"categorical"` or `"regression"`.
        temperature: Float. T. Defaults to 1.
        from_logits: Boolean, or a list of one for each teacher. Whether outputs
            are logits; probabilities otherwise. Defaults to `False`.

    Returns:
        float32 tensor of the shape of one output: probabilities, or numbers.

    Example:

    >>> said = [np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])]
    >>> keras.ops.convert_to_numpy(keras_mtl.distillation.soft_targets(said, "categorical")).round(2)
    array([[0.7, 0.3]], dtype=float32)
    """
    if not isinstance(from_logits, (list, tuple)):
        from_logits = [from_logits] * len(outputs)  # type: ignore[list-item]
    from_logits = [check_boolean(one, "from_logits") for one in from_logits]
    total = 0.0
    for output, logits in zip(outputs, from_logits, strict=True):
        output = ops.cast(output, "float32")
        if kind == "regression":
            total = total + output
        else:
            softened = to_logits(output, kind, logits) / temperature
            total = total + (ops.sigmoid(softened) if kind == "binary" else softmax(softened))
    return total / len(outputs)


def to_logits(output: Tensor, kind: str, from_logits: bool) -> Tensor:
    """Logits of what is logits or probabilities."""
    output = ops.cast(output, "float32")
    if from_logits:
        return output
    output = ops.clip(output, _SMALLEST, 1.0 - _SMALLEST)
    return ops.log(output) - ops.log1p(-output) if kind == "binary" else ops.log(output)


def soft_loss(targets: Tensor, logits: Tensor, kind: str, temperature: float = 1.0, entrywise: bool = False) -> Tensor:
    """Cross-entropy between soft targets and the student, softened alike: `-T^2 sum_c q_c log p_c`.

    The factor `T^2` keeps the size of the gradient, which softening divides by it.

    Args:
        targets: Probabilities of shape `(..., C)`.
        logits: The student's logits, of the same shape.
        kind: `"binary"`, where each entry is a label of its own and the loss is
            their mean, or `"categorical"`.
        temperature: Float. T. Defaults to 1.
        entrywise: Boolean. Whether to leave out the mean over binary labels.

    Returns:
        float32 tensor of shape `(...)`; of `(..., C)` where `entrywise`.
    """
    logits = ops.cast(logits, "float32") / temperature
    if kind == "categorical":
        values = -ops.sum(targets * ops.log_softmax(logits), axis=-1)
    else:
        values = ops.softplus(logits) - targets * logits
        values = values if entrywise else ops.mean(values, axis=-1)
    return temperature**2 * values
