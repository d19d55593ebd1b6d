"""Soft optimal uncertainty weighting (UW-SO)."""

from __future__ import annotations

from typing import Any

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._present import floored, masked_softmax
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("uw_so")
class UWSO(Weighting):
    r"""Softmax of the inverse losses, with a temperature.

    With `L` the losses of this step and the temperature `T`, the weights are, over the present tasks,

    ```math
    w_k = \mathrm{softmax}\Big( \frac{1}{T L} \Big)_k
    ```

    `1 / L_k` is where the learned weight of `Uncertainty(kinds="laplace")` ends, so nothing has to
    be learned or to catch up; the softmax keeps the weights from growing as the losses fall.

    A lower temperature gives more weight to the tasks with low losses, a higher one makes the weights equal.
    It meets losses in their own units: halving all losses is halving the temperature. Search it for each
    problem, as the authors do; once losses are far below `1 / temperature`, one task gets everything.

    Scale: the weights of the present tasks sum to 1.

    Args:
        temperature: Float. Defaults to `1.0`.
        floor: Float. Losses below it are read as it. Defaults to `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `temperature` or `floor` is not positive.

    Example:

    >>> weighting = keras_mtl.weighting.UWSO(temperature=2.0)
    >>> weighting([0.25, 0.5]).numpy().round(4).tolist()  # softmax(2, 1)
    [0.7311, 0.2689]

    References:
        - Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott and Koehler, "Analytical
          uncertainty-based loss weighting in multi-task learning", GCPR 2024,
          arXiv:2408.07985.

    Deviations: the paper has no default temperature. Losses are at least `floor`; absent tasks are left out of
    the softmax.
    """

    def __init__(self, temperature: float = 1.0, floor: float = 1e-8, name: str | None = None) -> None:
        super().__init__(name=name)
        self.temperature = check_number(temperature, "temperature", above=0)
        self.floor = check_number(floor, "floor", above=0)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        return masked_softmax(1.0 / floored(losses, present, self.floor), present, self.temperature)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature, "floor": self.floor}
