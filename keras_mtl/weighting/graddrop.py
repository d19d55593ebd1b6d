"""Gradient sign dropout (GradDrop)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("graddrop")
class GradDrop(JacobianWeighting):
    r"""Keeps one sign per coordinate, drawn by how much the tasks agree on it.

    With `U` uniform in [0, 1] and

    ```math
    P = \frac{1}{2} \Big( 1 + \frac{\sum_k g_k}{\sum_k |g_k|} \Big)
    ```

    both per coordinate, the positive entries are kept where `P > U` and the negative ones where `P
    < U`; the direction is the sum over the tasks of `(leak_k + (1 - leak_k) * mask_k) * g_k`.

    Scale: a sum over tasks. The logged weight of a task is the share of its
    own gradient that is kept, `<kept_k, g_k> / ||g_k||^2`, within [0, 1].

    Args:
        leak: Float or list of K floats in [0, 1]. The share of a task's
            gradient that is never dropped. Defaults to `0.0`.
        seed: Integer. Seed of the draws. Defaults to `None`, a random seed.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `leak` is not within [0, 1] or not of length K.

    Example:

    >>> weighting = keras_mtl.weighting.GradDrop(seed=0)
    >>> weighting.build((2, 2))
    >>> gradients = np.array([[1.0, 2.0], [1.0, 3.0]], dtype="float32")
    >>> direction, weights = weighting.direction(gradients, np.ones(2, "float32"), np.ones(2, "float32"))
    >>> direction.numpy().tolist()  # no conflict, nothing to drop
    [2.0, 5.0]

    References:
        - Chen et al., "Just pick a sign: optimizing deep multitask models with
          gradient sign dropout", 2020, arXiv:2010.06808.

    Deviations: the paper drops gradients of activations, signed by the
    activation and summed over the batch; here they are the gradients of the
    shared parameters. Heads get their own task's plain gradient.
    """

    def __init__(self, leak: float | Sequence[float] = 0.0, seed: int | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.leak = check_numbers(leak, "leak", least=0, most=1)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._first_seed = ops.convert_to_numpy(self.seed_generator.state.value)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if np.ndim(self.leak) and len(self.leak) != self.num_tasks:
            raise ValueError(
                f"`leak` should have one value for each of {self.num_tasks} tasks. Received: leak={self.leak}"
            )
        self._leak = np.broadcast_to(np.array(self.leak, dtype="float32"), (self.num_tasks,))

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        del losses
        gradients = jacobian * present[:, None]
        purity = 0.5 * (1.0 + divide(ops.sum(gradients, axis=0), ops.sum(ops.abs(gradients), axis=0)))
        draw = keras.random.uniform(purity.shape, dtype="float32", seed=self.seed_generator)
        mask = ops.where(gradients > 0, ops.cast(purity > draw, "float32"), ops.cast(purity < draw, "float32"))
        leak = self._leak[:, None]
        kept = (leak + (1.0 - leak) * mask) * gradients
        # Unit rows first: squares of large gradients overflow in float32.
        largest = ops.max(ops.abs(gradients), axis=1, keepdims=True)
        unit = divide(gradients, largest)
        share = divide(ops.sum(divide(kept, largest) * unit, axis=1), ops.sum(unit * unit, axis=1))
        return ops.sum(kept, axis=0), share

    def reset_state(self) -> None:
        super().reset_state()
        self.seed_generator.state.assign(self._first_seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "leak": self.leak, "seed": self.seed}
