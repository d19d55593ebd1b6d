"""Batch normalization that leaves its statistics as they are on a batch without examples."""

from __future__ import annotations

import keras
from keras import ops

from keras_mtl._keras_private import MomentsNormalization
from keras_mtl._types import Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class SafeBatchNormalization(MomentsNormalization):
    """`keras.layers.BatchNormalization` for layers that may see no example.

    Where tasks have inputs of their own and take turns, the columns and heads
    of absent tasks see batches of no row, or of one that stands for none
    (`absent_rows` of `keras_mtl.data.mix`). The mean of nothing is NaN, and
    Keras' layer would keep it for good. This one goes by its moving statistics
    and leaves them alone where a batch has fewer than two rows. In all else it
    is Keras' layer and takes its arguments.

    Example:

    >>> layer = keras_mtl.layers.SafeBatchNormalization()
    >>> layer(np.zeros((0, 3), "float32"), training=True).shape
    TensorShape([0, 3])
    >>> layer.moving_mean.numpy()
    array([0., 0., 0.], dtype=float32)
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        before = ops.copy(self.moving_mean), ops.copy(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            # `momentum * m + (1 - momentum) * m` is not quite m: over many absences it would drift.
            for variable, old in zip((self.moving_mean, self.moving_variance), before, strict=True):
                variable.assign(ops.where(_some(inputs), variable.value, old))
        return outputs

    def moments(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        moments = super().moments(inputs, mask)
        moving = self.moving_mean, self.moving_variance
        # NaN would reach the gradients of scale and offset, too, as 0 times NaN.
        return tuple(
            ops.where(_some(inputs), m, ops.cast(old.value, m.dtype)) for m, old in zip(moments, moving, strict=True)
        )


def _some(inputs: Tensor) -> Tensor:
    return ops.shape(inputs)[0] > 1
