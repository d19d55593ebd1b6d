"""Labels whose shape does not fit the output: an error, where a loss would broadcast or fail in its own words."""

import numpy as np
from keras import losses as keras_losses

from keras_mtl.training.resolve import is_elementwise

# Losses whose last axis is a vector of classes or directions: without it, Keras would take the axis before for one.
_OF_VECTORS = (
    keras_losses.CategoricalCrossentropy,
    keras_losses.CategoricalFocalCrossentropy,
    keras_losses.CategoricalHinge,
    keras_losses.CosineSimilarity,
    keras_losses.KLDivergence,
)


def check_label_shape(task, loss, y_true, y_pred):
    """Raises where a built-in loss would take labels that do not belong to its predictions.

    A last axis of 1 may be there or not, as in Keras, unless it is the axis
    along which the loss compares vectors; what is unknown fits. Losses of the
    user's own take what they take.

    Args:
        task: String. The task.
        loss: `keras.losses.Loss`.
        y_true: Labels of the task.
        y_pred: Predictions of the task.
    """
    given, predicted = (_shape(tensor) for tensor in (y_true, y_pred))
    if given is None or predicted is None:
        return
    if isinstance(loss, keras_losses.SparseCategoricalCrossentropy):
        wanted = [predicted[:-1], (*predicted[:-1], 1)]
    elif isinstance(loss, _OF_VECTORS):
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


def _shape(tensor):
    """The shape as a tuple, or `None` where even the rank is unknown."""
    shape = np.shape(tensor) if not hasattr(tensor, "shape") else tensor.shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _fits(given, wanted):
    same_rank = len(given) == len(wanted)
    return same_rank and all(None in (n, m) or n == m for n, m in zip(given, wanted, strict=True))
