"""Geometric loss strategy."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._present import divide, floored
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("geometric")
class Geometric(Weighting):
    r"""Minimizes the geometric mean of the task losses.

    The objective, over the `n` present tasks, is

    ```math
    L = \Big( \prod_k L_k \Big)^{1/n}
    ```

    The weight of task `k` is its derivative, `L / (n * L_k)`: every task's weighted loss is the
    same, and the weighted losses sum to the geometric mean.

    Scale: weights sum to about 1 where the losses are alike; multiplying one
    task's loss by `c` multiplies the whole objective by `c^(1/n)` and leaves
    the balance as it was.

    Args:
        floor: Float. Losses below it are read as `floor`, which bounds the
            weight of a task whose loss is zero or negative. Defaults to
            `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `floor` is not positive.

    Example:

    >>> weighting = keras_mtl.weighting.Geometric()
    >>> weighting([1.0, 2.0, 4.0]).numpy().round(4).tolist()
    [0.6667, 0.3333, 0.1667]

    References:
        - Chennupati, Sistu, Yogamani and Rawashdeh, "MultiNet++: multi-stream
          feature aggregation and geometric loss strategy for multi-task
          learning", 2019, arXiv:1904.08492.
    """

    def __init__(self, floor: float = 1e-8, name: str | None = None) -> None:
        super().__init__(name=name)
        self.floor = check_number(floor, "floor", above=0)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        losses = floored(losses, present, self.floor)
        count = ops.sum(present)
        # The mean of logarithms: a product of losses would overflow.
        logs = ops.log(losses)
        return ops.exp(divide(ops.sum(logs), count) - logs) * divide(present, count)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor}
