"""Scale-invariant loss: the sum of the log losses."""

from __future__ import annotations

from typing import Any

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._present import floored
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("scale_invariant")
class ScaleInvariant(Weighting):
    r"""Minimizes the sum of the logarithms of the task losses.

    ```math
    L = \sum_k \log L_k
    ```

    The weight of task `k` is `1 / L_k`: no task's unit matters.

    Scale: every present task's weighted loss is 1. The weights grow as the
    losses fall.

    Args:
        floor: Float. Losses below it are read as `floor`, which bounds the
            weight of a task whose loss is zero or negative. Defaults to
            `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `floor` is not positive.

    Example:

    >>> weighting = keras_mtl.weighting.ScaleInvariant()
    >>> weighting([0.5, 2.0]).numpy().tolist()
    [2.0, 0.5]

    References:
        - Navon et al., "Multi-task learning as a bargaining game", 2022,
          arXiv:2202.01017 (its baseline "SI").
    """

    def __init__(self, floor: float = 1e-8, name: str | None = None) -> None:
        super().__init__(name=name)
        self.floor = check_number(floor, "floor", above=0)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        return present / floored(losses, present, self.floor)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor}
