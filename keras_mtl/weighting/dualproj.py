"""DualProj: the mean gradient projected onto the dual cone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._preference import Preference
from keras_mtl.weighting._quadratic import solve_program
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("dualproj")
class DualProj(Preference, GramianWeighting):
    r"""The mean of the task gradients, projected so that it conflicts with no task.

    The direction is

    ```math
    d = \arg\min_d \Big\| d - \frac{1}{K} \sum_k g_k \Big\|^2 \quad \text{with} \quad d \cdot g_j \ge 0
    ```

    Its weights are `w = argmin w^T G w` over `w >= 1 / K`: one quadratic program. The projection of
    gradient episodic memory, with all tasks as constraints.

    With a preference p, which sums to 1, it is the mean `sum_k p_k g_k` that is projected.

    Scale: mean-like; without conflict every weight is `1 / K`, or the preference.

    Degenerate gradients: a present task with a zero gradient gets its share, `1 / K`, and affects no other.
    Where gradients cancel (opposite, or Pareto stationary) the direction is 0.

    Args:
        preference: Dict from tasks to numbers, or list of K numbers, at least 0; they are divided by their
            sum. Defaults to `None`, `1 / K` each.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `preference` has negative numbers, is all 0 or does not fit the tasks.

    Example:

    >>> weighting = keras_mtl.weighting.DualProj()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.6111, 0.5]

    References:

    - Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", 2017,
      arXiv:1706.08840 (equation 11).

    Deviations: the paper projects the current task's gradient against those of past tasks; here the
    mean of all tasks' gradients is projected against each of them.
    """

    def __init__(
        self,
        preference: Mapping[str, float] | Sequence[float] | None = None,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        self.set_preference(preference)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        shares = self.present_shares(present)
        parts = ops.where(alive, shares * norms, 0.0)
        largest = ops.max(parts)
        relative = parts / ops.where(largest > 0, largest, 1.0)

        def program(cosines: Tensor) -> tuple[Tensor, Tensor]:
            return cosines, ops.where(alive[:, None], ops.matmul(cosines, relative[:, None]), 1.0)

        return shares + ops.where(alive, solve_program(cosines, program) * largest / norms, 0.0)
