"""Dual-balancing multi-task learning (DB-MTL)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_boolean, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide, floored
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("dbmtl")
class DBMTL(JacobianWeighting):
    r"""Balances losses by their logarithm and gradients by their norm.

    With `h_k = g_k / L_k`, the gradient of `log L_k`, and `t` the task's step,
    a running mean `m_k <- h_k + beta / t^beta_sigma * (m_k - h_k)` is kept; the
    direction is

    ```math
    d = \sum_k \frac{\max_j \|m_j\|}{\|m_k\|} \, m_k
    ```

    The running mean starts at 0, so that with `beta_sigma=0` the first direction is `1 - beta`
    times what it will be: official behaviour, of no effect with Adam. `debias=True` divides it out.

    Scale: every task contributes a vector of the largest norm. The logged
    weight is `a_k / L_k`, which multiplies `g_k` where `beta=0`.

    Args:
        beta: Float in [0, 1). Memory of the running mean. Defaults to `0.9`.
        beta_sigma: Float. Decay of `beta` over steps; the authors use 0 and
            0.5. Defaults to `0.0`.
        debias: Boolean. Whether to correct the running mean for its start at
            0. Defaults to `False`.
        floor: Float. Losses below it are read as `floor`. Defaults to `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.DBMTL(beta=0.0)
    >>> weighting.build((2, 3))
    >>> gradients = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype="float32")
    >>> direction, weights = weighting.direction(gradients, np.ones(2, "float32"), np.ones(2, "float32"))
    >>> weights.numpy().round(3).tolist()
    [1.453, 1.0]

    References:
        - Lin et al., "Dual-balancing for multi-task learning", 2023,
          arXiv:2308.12029.

    Deviations: an absent task is left out of the step and of the maximum, and
    its mean and step count stay as they are; a task whose mean is 0 gets
    weight 0. Heads get the plain gradient of their own task's loss, in the
    paper that of its logarithm.
    """

    def __init__(
        self,
        beta: float = 0.9,
        beta_sigma: float = 0.0,
        debias: bool = False,
        floor: float = 1e-8,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.beta = check_number(beta, "beta", least=0, below=1)
        self.beta_sigma = check_number(beta_sigma, "beta_sigma", least=0)
        self.debias = check_boolean(debias, "debias")
        self.floor = check_number(floor, "floor", above=0)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.average = self.add_state("average", tuple(input_shape))
        self.steps = self.add_state("steps", (self.num_tasks,))
        self.zero_share = self.add_state("zero_share", (self.num_tasks,), 1.0)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        losses = floored(losses, present, self.floor)
        steps = self.steps + present
        beta = self.beta / ops.power(ops.maximum(steps, 1.0), self.beta_sigma)
        gradients = jacobian / losses[:, None]
        mixed = gradients + beta[:, None] * (self.average - gradients)
        average = ops.where(present[:, None] > 0, mixed, self.average.value)
        zero_share = ops.where(present > 0, beta * self.zero_share.value, self.zero_share.value)
        self.average.assign(average)
        self.steps.assign(steps)
        self.zero_share.assign(zero_share)

        average = average * present[:, None]
        if self.debias:
            average = divide(average, (1.0 - zero_share)[:, None])
        # Norms by way of the largest entry: squares could overflow or vanish.
        largest = ops.max(ops.abs(average), axis=1)
        unit = divide(average, largest[:, None])
        lengths = ops.sqrt(ops.sum(unit * unit, axis=1))
        scale = divide(ops.max(largest * lengths), largest * lengths)
        return ops.sum(scale[:, None] * average, axis=0), scale * present / losses

    def get_config(self) -> dict[str, Any]:
        options = ("beta", "beta_sigma", "debias", "floor")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
