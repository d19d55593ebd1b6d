"""Labels whose shape does not fit the output: an error, where a loss would broadcast or fail in its own words."""

import numpy as np
from keras import losses as keras_losses

from keras_mtl.training.alignment import static_shape
from keras_mtl.training.resolve import OF_VECTORS, is_elementwise


def check_label_shape(task, loss, layout, y_true, y_pred):
    """Raises where a built-in loss would take labels that do not belong to its predictions.

    A last axis of 1 may be there or not, as in Keras, unless it is the axis
    along which the loss compares vectors; what is unknown fits. Losses of the
    user's own take what they take.

    Args:
        task: String. The task.
        loss: `keras.losses.Loss`.
        layout: Its `LossLayout`.
        y_true: Labels of the task.
        y_pred: Predictions of the task.
    """
    y_true = y_true if hasattr(y_true, "shape") else np.asarray(y_true)
    given, predicted = static_shape(y_true), static_shape(y_pred)
    if given is None or predicted is None:
        return
    if isinstance(loss, keras_losses.SparseCategoricalCrossentropy):
        axis = layout.class_axis
        wanted = [predicted[:axis] + middle + predicted[axis + 1 :] for middle in ((), (1,))]
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


def _fits(given, wanted):
    same_rank = len(given) == len(wanted)
    return same_rank and all(None in (n, m) or n == m for n, m in zip(given, wanted, strict=True))
