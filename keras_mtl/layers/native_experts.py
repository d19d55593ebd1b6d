"""A learned sum of a task's own experts, the same for all examples."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_mtl._types import Shape, Tensor
from keras_mtl.layers._shapes import check_same_shape


@keras.saving.register_keras_serializable(package="keras_mtl")
class NativeExperts(layers.Layer):
    """Adds a sum of a task's own experts, with one learned number each, to a mixture: `m + sum_i v_i e_i`.

    The numbers are drawn from `+-sqrt(1 / n)` at first; a lone expert is added as it is.

    Call arguments:
        inputs: List of the mixture and n experts, tensors of one shape.

    Returns:
        Tensor of that shape.

    Example:

    >>> keras_mtl.layers.NativeExperts()([np.ones((1, 2)), np.ones((1, 2))]).numpy().tolist()
    [[2.0, 2.0]]
    """

    def build(self, input_shape: Sequence[Shape]) -> None:
        check_same_shape(input_shape, f"Sum '{self.name}'")
        count = len(input_shape) - 1
        limit = count**-0.5
        self.weight = None
        if count > 1:
            initializer = keras.initializers.RandomUniform(-limit, limit)
            self.weight = self.add_weight(shape=(count,), initializer=initializer, name="weight")

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        total, *experts = inputs
        for i, expert in enumerate(experts):
            total = total + (expert if self.weight is None else self.weight[i] * expert)
        return total

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        return tuple(input_shape[0])
