"""COSMOS: a weighted sum, and losses in the direction of the preference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._preference import Preference
from keras_mtl.weighting._present import divide
from keras_mtl.weighting.registry import register


@register("cosmos")
class COSMOS(Preference):
    r"""Minimizes a weighted sum of the losses, less `lam` times the cosine between losses and preference.

    With the preference `p`, which sums to 1, the objective is

    ```math
    \sum_k p_k L_k - \lambda \, \frac{p \cdot L}{\|p\| \, \|L\|}
    ```

    The weights are its derivative, `p - lam * (p / ||p|| - cos(p, L) * L / ||L||) / ||L||`. Of
    points of the same weighted sum it takes the one whose losses are nearest to the ratios of the
    preference, which spreads the trade-offs of several preferences. A large `lam` finds concave
    parts of the Pareto front too.

    A weight is negative where a loss is so far below its ratio that it should rise.

    Scale: the weights sum to 1 with `lam=0`; the cosine's part of them grows as the losses fall.

    Args:
        lam: Float. How much the cosine counts. The paper uses 0.01 to 8. Defaults to `1.0`.
        preference: Dict from tasks to numbers, or list of K numbers, at least 0: weights of the sum and, by
            the cosine, the ratios of the losses. Defaults to `None`, `1 / K` each.
        floor: Float. Where the losses' length is below it, the cosine's part of the weights grows no more.
            Defaults to `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `lam` is negative, or `preference` has negative numbers, is all 0 or does not fit the
            tasks.

    Example:

    >>> weighting = keras_mtl.weighting.COSMOS(lam=1.0)
    >>> weighting([3.0, 4.0]).numpy().round(4).tolist()  # 1/2 - (0.7071 - 0.9899 * (0.6, 0.8)) / 5
    [0.4774, 0.517]

    References:
        - Ruchte and Grabocka, "Scalable Pareto front approximation for deep multi-objective learning", ICDM
          2021, arXiv:2103.13392.

    Deviations: the paper draws a preference for every batch and feeds it to the network beside the inputs, so
    that one network has the whole front; here a training has one preference (`keras_mtl.analysis.pareto_sweep`
    trains a network for each). Absent tasks are left out of all vectors.
    """

    def __init__(
        self,
        lam: float = 1.0,
        preference: Mapping[str, float] | Sequence[float] | None = None,
        floor: float = 1e-8,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.lam = check_number(lam, "lam", least=0)
        self.set_preference(preference)
        self.floor = check_number(floor, "floor", above=0)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        shares = self.present_shares(present)
        # In units of the largest, whose squares neither overflow nor vanish.
        largest = ops.max(ops.abs(losses * present))
        units = divide(losses * present, largest)
        length = ops.sqrt(ops.sum(units * units))
        toward = divide(shares, ops.sqrt(ops.sum(shares * shares)))
        here = divide(units, length)
        turn = ops.where(largest > 0, toward - ops.sum(toward * here) * here, 0.0)
        return (shares - self.lam * turn / ops.maximum(length * largest, self.floor)) * present

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "lam": self.lam, "floor": self.floor}
