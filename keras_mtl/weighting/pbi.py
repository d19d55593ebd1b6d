"""Penalty-based boundary intersection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_mtl._checks import check_number, check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._preference import Preference
from keras_mtl.weighting._present import divide
from keras_mtl.weighting.registry import register

# Of the length of the losses: where they are nearer to the ray than that, the penalty's slope goes to 0.
_NEAR = 1e-6


@register("pbi")
class PBI(Preference):
    r"""Minimizes how far the losses are along a ray, with a penalty on how far they are from it.

    With the unit vector `r` of the preference and `f = L - reference`, the objective is

    ```math
    d_1 + \theta \, d_2, \quad d_1 = f \cdot r, \quad d_2 = \| f - d_1 r \|
    ```

    The weights are its derivative, `r + theta * (f - d1 r) / d2`. It ends where the ray meets the
    Pareto front, on its concave parts too where `theta` is large enough.

    A weight is negative where a loss is so far below the ray that it should rise.

    Scale: free; between `r` and `r` plus a vector of length `theta`. Only the direction of the losses counts.

    Args:
        theta: Float. Penalty. 0 minimizes the losses weighted by `r`; with a large one the losses come to the
            ray first and fall along it then. Defaults to `5.0`, the paper's.
        preference: Dict from tasks to numbers, or list of K numbers, at least 0: the ratios of the losses less
            `reference` that are wanted in the end. Defaults to `None`, equal losses.
        reference: Float or list of K floats. Ideal point, a lower bound of the losses. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `theta` is negative, or `preference` has negative numbers, is all 0 or does not fit the
            tasks.

    Example:

    >>> weighting = keras_mtl.weighting.PBI(theta=1.0)
    >>> weighting([3.0, 1.0]).numpy().round(4).tolist()  # (1 + 1) / sqrt(2), (1 - 1) / sqrt(2)
    [1.4142, 0.0]

    References:
        - Zhang and Li, "MOEA/D: A multiobjective evolutionary algorithm based on decomposition", IEEE
          Transactions on Evolutionary Computation, 2007.

    Deviations: an evolutionary method compares values of the objective; its gradient is what is used here, and
    goes to 0 within 1e-6 of the ray, where there is none. Absent tasks are left out of all vectors.
    """

    def __init__(
        self,
        theta: float = 5.0,
        preference: Mapping[str, float] | Sequence[float] | None = None,
        reference: float | Sequence[float] = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.theta = check_number(theta, "theta", least=0)
        self.set_preference(preference)
        self.reference = check_numbers(reference, "reference")

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if np.ndim(self.reference) and len(self.reference) != self.num_tasks:
            raise ValueError(
                f"`reference` should have one value for each of {self.num_tasks} tasks. "
                f"Received: reference={self.reference}"
            )

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        shares = self.present_shares(present)
        ray = divide(shares, ops.sqrt(ops.sum(shares * shares)))
        # Their length does not matter, and might overflow when squared.
        losses = (losses - ops.convert_to_tensor(self.reference, "float32")) * present
        losses = divide(losses, ops.max(ops.abs(losses)))
        aside = losses - ops.sum(losses * ray) * ray
        near = _NEAR**2 * ops.sum(losses * losses)
        return (ray + self.theta * divide(aside, ops.sqrt(ops.sum(aside * aside) + near))) * present

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "theta": self.theta, "reference": self.reference}
