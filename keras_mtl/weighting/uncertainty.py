"""Uncertainty weighting: each task's noise level is learned with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register

# kind -> (factor of exp(-s) in the weight, factor of s in the penalty)
_KINDS = {"regression": (0.5, 0.5), "classification": (1.0, 0.5), "laplace": (1.0, 1.0)}
_LIMIT = 10.0


def _clip(value: Tensor) -> Tensor:
    return ops.clip(value, -_LIMIT, _LIMIT)


@register("uncertainty")
class Uncertainty(Weighting):
    r"""Learns one noise level per task and weighs by its inverse.

    With `s_k` the learned log variance of task `k`, the objective is, over the
    present tasks,

    ```math
    \sum_k \big( a_k e^{-s_k} L_k + c_k s_k \big)
    ```

    - `a = 1/2, c = 1/2` for `"regression"` (Gaussian noise, `L_k` a mean
      squared error),
    - `a = 1, c = 1/2` for `"classification"` (softmax with a temperature),
    - `a = 1, c = 1` for `"laplace"` (`L_k` a mean absolute error, `s_k` the
      log of the Laplace scale `b_k`).

    The `s_k` are one trainable variable named `log_var`, which the model's
    optimizer moves. Keep it out of weight decay:
    `optimizer.exclude_from_weight_decay(var_names=["log_var"])`.

    Scale: at the optimum of `s` a regression weight is `1 / (2 * L_k)`, so
    that every task's weighted loss is 1/2 whatever its unit. The objective
    may be negative.

    Args:
        kinds: `None`, string or dict. Kind of noise: `"regression"`,
            `"classification"` or `"laplace"`; one string for all tasks or a
            dict `{task: kind}`. Tasks without an entry have the kind that the
            model tells from their loss, else `"regression"`. Defaults to
            `None`.
        initial: Float. The first `s` of all tasks. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If a kind is unknown or a task in `kinds` is not one of the
            model's.

    Example:

    >>> weighting = keras_mtl.weighting.Uncertainty(kinds="regression")
    >>> weighting([0.5, 2.0]).numpy().tolist()
    [0.5, 0.5]

    References:
        - Kendall, Gal and Cipolla, "Multi-task learning using uncertainty to
          weigh losses for scene geometry and semantics", 2018,
          arXiv:1705.07115.

    Deviations: `s` is kept within [-10, 10], so that a training loss that
    goes to 0 does not send its weight to infinity. The gradient of `s` is 0
    for an absent task; an optimizer with momentum may still coast.
    """

    def __init__(
        self, kinds: str | Mapping[str, str] | None = None, initial: float = 0.0, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        for kind in kinds.values() if isinstance(kinds, dict) else [kinds or "regression"]:
            if kind not in _KINDS:
                raise ValueError(f"`kinds` should name kinds among {tuple(_KINDS)}. Received: kinds={kinds!r}")
        self.kinds = kinds
        self.initial = check_number(initial, "initial", least=-_LIMIT, most=_LIMIT)
        self._told = None

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        if isinstance(self.kinds, dict):
            unknown = sorted(set(self.kinds) - set(tasks))
            if unknown:
                raise ValueError(f"`kinds` should have tasks among {list(tasks)}. Received: {unknown} in `kinds`")
            kinds = [self.kinds.get(task, kind) for task, kind in zip(tasks, kinds, strict=True)]
        self._told = [str(kind) for kind in kinds]

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.log_var = self.add_weight(
            name="log_var",
            shape=(self.num_tasks,),
            initializer=keras.initializers.Constant(self.initial),
            constraint=_clip,  # or a saturated `s` would drift off and come back late
            autocast=False,
        )

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        return self._factors(0) * ops.exp(-_clip(self.log_var.value)) * present

    def objective(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        # Not stopped: the gradient of `s` comes through the weights.
        return ops.sum(weights * losses) + ops.sum(present * self._factors(1) * _clip(self.log_var.value))

    def reset_state(self) -> None:
        super().reset_state()
        self.log_var.assign(ops.full((self.num_tasks,), self.initial, "float32"))

    def _factors(self, index: int) -> np.ndarray:
        if isinstance(self.kinds, dict) and self._told is None:
            raise ValueError(
                "`kinds` should be one string where the tasks have no names; call `set_tasks` first. "
                f"Received: kinds={self.kinds!r}"
            )
        if isinstance(self.kinds, str):
            kinds = [self.kinds] * self.num_tasks
        else:
            kinds = self._told or ["regression"] * self.num_tasks
        return np.array([_KINDS[kind][index] for kind in kinds], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kinds": self.kinds, "initial": self.initial}
