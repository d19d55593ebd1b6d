"""Multi-task learning robust to label noise, by excess risk (ExcessMTL)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide, masked_softmax
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("excess")
class ExcessMTL(JacobianWeighting):
    r"""Favours the tasks that are far from the best they can reach.

    Excess risk, unlike the loss, does not stay high for a task whose labels
    are noisy. With `S_k` the running sum of squared task gradients, it is
    estimated by

    ```math
    e_k = \sum_p \frac{g_{kp}^2}{\sqrt{S_{kp} + 10^{-7}}}
    ```

    divided by its first value, and the weights take a multiplicative step, `w_k <- w_k *
    exp(learning_rate * e_k)`, rescaled to their former sum. The direction is `sum_k w_k * g_k`.

    Scale: the weights sum to the number of present tasks.

    Args:
        learning_rate: Float. Step size of the weights. Defaults to `0.01`.
        warmup_steps: Integer. Steps before the weights move; the last of them
            (or the first step) gives the value that `e_k` is divided by.
            Defaults to `0`.
        baseline: Boolean. Whether `e_k` is divided by its first value. Without
            it the weights move from the first step and depend on the scale of
            the gradients. Defaults to `True`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.ExcessMTL()
    >>> weighting.build((2, 2))
    >>> gradients = np.array([[1.0, 0.0], [0.0, 2.0]], dtype="float32")
    >>> direction, weights = weighting.direction(gradients, np.ones(2, "float32"), np.ones(2, "float32"))
    >>> direction.numpy().tolist(), weights.numpy().tolist()
    ([1.0, 2.0], [1.0, 1.0])

    References:
        - He, Zou, Zhao, Xu and Zhao, "Robust multi-task learning with excess
          risks", 2024, arXiv:2402.02009.

    Deviations: the warm-up is counted in steps, not epochs. Present tasks
    share out among themselves the weight they had, so that an absent task
    neither gains nor loses. The official code multiplies the heads' gradients
    by the weights too; here heads get their own task's plain gradient.
    """

    def __init__(
        self, learning_rate: float = 0.01, warmup_steps: int = 0, baseline: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.warmup_steps = check_integer(warmup_steps, "warmup_steps", 0)
        self.baseline = check_boolean(baseline, "baseline")

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.squares = self.add_state("squares", tuple(input_shape))
        self.log_weights = self.add_state("log_weights", shape)
        self.steps = self.add_state("steps", shape)
        self.first_excess = self.add_state("first_excess", shape)  # 0: not measured yet

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        del losses
        jacobian = jacobian * present[:, None]
        squares = self.squares + jacobian * jacobian
        # g * (g / sqrt(S)) rather than g^2 / sqrt(S), which may overflow.
        excess = ops.sum(jacobian * (jacobian / ops.sqrt(squares + 1e-7)), axis=1)
        steps = self.steps + present
        if self.baseline:
            moves = ops.logical_and(self.first_excess > 0, steps > self.warmup_steps)
            first_due = ops.logical_and(self.first_excess <= 0, steps >= self.warmup_steps)
            relative = divide(excess, ops.convert_to_tensor(self.first_excess))
            self.first_excess.assign(ops.where(first_due, excess, self.first_excess.value))
        else:
            moves, relative = steps > self.warmup_steps, excess
        gain = self.learning_rate * relative * ops.cast(moves, "float32") * present
        # Less the mean: the softmax does not see it, and the logarithms stay small.
        gain = (gain - divide(ops.sum(gain), ops.sum(present))) * present
        log_weights = self.log_weights + gain
        self.log_weights.assign(log_weights)
        self.squares.assign(squares)
        self.steps.assign(steps)
        weights = ops.sum(present) * masked_softmax(log_weights, present)
        return ops.sum(weights[:, None] * jacobian, axis=0), weights

    def get_config(self) -> dict[str, Any]:
        options = ("learning_rate", "warmup_steps", "baseline")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
