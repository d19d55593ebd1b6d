"""Task gradients for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_mtl.training.task_gradients import TaskGradients


def task_gradients(
    tape: tf.GradientTape, losses: Sequence[Tensor], variables: Sequence[keras.Variable]
) -> TaskGradients:
    """Takes the gradients of several task losses, for a loop of one's own.

    Args:
        tape: A persistent `tf.GradientTape` that recorded the losses.
        losses: List of K scalar tensors, one for each task.
        variables: List of the shared variables.

    Returns:
        An object with `gramian()`, the `(K, K)` inner products, `jacobian()`,
        the `(K, P)` task gradients in one matrix, `combine(weights)`, the list
        of weighted sums in the variables' shapes, and `split(direction)`,
        which cuts a direction of shape `(P,)` into those shapes.

    Example:

    >>> import tensorflow as tf
    >>> shared = keras.Variable([1.0, 1.0])
    >>> with tf.GradientTape(persistent=True) as tape:
    ...     losses = [tf.reduce_sum(shared * [1.0, 0.0]), tf.reduce_sum(shared * [0.0, 2.0])]
    >>> gradients = keras_mtl.weighting.task_gradients(tape, losses, [shared])
    >>> gradients.gramian().numpy().tolist()
    [[1.0, 0.0], [0.0, 4.0]]
    >>> mgda = keras_mtl.weighting.get("mgda")
    >>> weights = mgda(losses, gramian=gradients.gramian())
    >>> gradients.combine(weights)[0].numpy().round(4).tolist()
    [0.8, 0.4]
    """
    # Imported here, since only a loop on TensorFlow needs TensorFlow.
    from keras_mtl.training.task_gradients import TaskGradients

    targets = [getattr(variable, "value", variable) for variable in variables]
    return TaskGradients([tape.gradient(loss, targets) for loss in losses], targets)
