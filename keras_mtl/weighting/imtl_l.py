"""Impartial multi-task learning, loss balance (IMTL-L)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register

_LIMIT = 10.0


def _clip(value: Tensor) -> Tensor:
    return ops.clip(value, -_LIMIT, _LIMIT)


@register("imtl_l")
class IMTLL(Weighting):
    r"""Learns one scale per task that brings all losses to the same size.

    With `s_k` the learned log scale of task `k`, the objective is, over the present tasks,

    ```math
    \sum_k \big( e^{s_k} L_k - s_k \big)
    ```

    It is twice the `Uncertainty` objective for regression at `-s`.

    The `s_k` are one trainable variable named `log_scale`, which the model's
    optimizer moves. Keep it out of weight decay:
    `optimizer.exclude_from_weight_decay(var_names=["log_scale"])`.

    Scale: at the optimum of `s` a weight is `1 / L_k`, so that every task's
    weighted loss is 1. The objective may be negative.

    Args:
        initial: Float. The first `s` of all tasks. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `initial` is not within [-10, 10].

    Example:

    >>> weighting = keras_mtl.weighting.IMTLL()
    >>> weighting([0.5, 2.0]).numpy().tolist()
    [1.0, 1.0]

    References:
        - Liu et al., "Towards impartial multi-task learning", ICLR 2021.

    Deviations: `s` is kept within [-10, 10], so that a training loss that
    goes to 0 does not send its weight to infinity. The gradient of `s` is 0
    for an absent task; an optimizer with momentum may still coast.
    """

    def __init__(self, initial: float = 0.0, name: str | None = None) -> None:
        super().__init__(name=name)
        self.initial = check_number(initial, "initial", least=-_LIMIT, most=_LIMIT)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(self.num_tasks,),
            initializer=keras.initializers.Constant(self.initial),
            constraint=_clip,  # or a saturated `s` would drift off and come back late
            autocast=False,
        )

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        return ops.exp(_clip(self.log_scale.value)) * present

    def objective(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        # Not stopped: the gradient of `s` comes through the weights.
        return ops.sum(weights * losses) - ops.sum(present * _clip(self.log_scale.value))

    def reset_state(self) -> None:
        super().reset_state()
        self.log_scale.assign(ops.full((self.num_tasks,), self.initial, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}
