"""A layer that reverses gradients."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._types import Shape, Tensor


def reverse_gradient(x: Tensor, strength: float | Tensor) -> Tensor:
    """Returns `x`, with `-strength` as its derivative.

    Args:
        x: Float tensor.
        strength: Float or scalar tensor.

    Returns:
        Tensor of the shape and values of `x`.
    """
    held = ops.stop_gradient(x)
    # The difference is 0, exactly, and its gradient is not.
    return held - ops.cast(strength, x.dtype) * (x - held)


@keras.saving.register_keras_serializable(package="keras_mtl")
class GradientReversal(keras.layers.Layer):
    """Passes what comes in, and its gradient back with the sign turned.

    `y = x` and `dL/dx = -strength * dL/dy`. What stands behind the layer learns to minimize its loss,
    what stands before it learns to make that loss large. At the start of a head it makes the
    head's task an adversary: the trunk forgets what the head needs.

    A large strength at once may keep the tasks from learning at all; the paper lets it grow from 0
    to 1 by `2 / (1 + exp(-10 p)) - 1`, p being the part of training that is done. `strength` is a
    variable: `layer.strength.assign(...)` changes it between steps.

    Args:
        strength: Float. At least 0. Defaults to 1.
        name: String. Name of the layer.

    Call arguments:
        inputs: Float tensor of any shape.

    Returns:
        Tensor of the shape and values of `inputs`.

    Raises:
        ValueError: If `strength` is negative.

    Example:

    >>> heads = {
    ...     "exercise": keras.layers.Dense(7),
    ...     "subject": [keras_mtl.layers.GradientReversal(0.3), keras.layers.Dense(10)],
    ... }

    Reference:

    - Y. Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17, 2016, arXiv:1505.07818.
    """

    def __init__(self, strength: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not strength >= 0:
            raise ValueError(f"`strength` should be at least 0. Received: strength={strength!r}")
        self.initial_strength = float(strength)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        del input_shape
        start = keras.initializers.Constant(self.initial_strength)
        self.strength = self.add_weight(
            name="strength", shape=(), initializer=start, trainable=False, dtype="float32", autocast=False
        )

    def call(self, inputs: Tensor) -> Tensor:
        return reverse_gradient(inputs, self.strength.value)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        strength = float(self.strength) if self.built else self.initial_strength
        return {**super().get_config(), "strength": strength}
