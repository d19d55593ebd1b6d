"""Multi-objective gradient correction (MoCo)."""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from keras_mtl._checks import check_boolean, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide, masked_softmax
from keras_mtl.weighting._simplex import project_to_simplex, restrict
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("moco")
class MoCo(JacobianWeighting):
    r"""Tracks the task gradients, and on them the common descent direction.

    At step `t`, with `b_t = beta / t^beta_sigma` and
    `c_t = learning_rate / t^learning_rate_sigma`, running task gradients and
    weights follow

    ```math
    y_k \leftarrow y_k - b_t (y_k - g_k), \quad w \leftarrow P\big( w - c_t (y y^\top + \rho I) w \big)
    ```

    The direction is `sum_k w_k * y_k`. `P` is the projection onto the simplex, or with
    `projection="softmax"` a softmax. The running gradients take out the bias that weights worked
    out from one mini-batch have.

    Scale: the weights of the present tasks sum to 1. With `match_losses=True`
    each `g_k` is first given the norm `L_k`. The `y_k` start at 0, and the
    first directions are short by `b_t`.

    Args:
        beta: Float in (0, 1]. Step size of the running gradients. Defaults to
            `0.5`.
        learning_rate: Float. Step size of the weights. Defaults to `0.1`.
        rho: Float. Pulls the weights together. Defaults to `0.0`.
        beta_sigma: Float. Decay of `beta`. Defaults to `0.5`.
        learning_rate_sigma: Float. Decay of `learning_rate`. Defaults to `0.5`.
        projection: `"simplex"` (the paper's) or `"softmax"` (LibMTL's).
            Defaults to `"simplex"`.
        match_losses: Boolean. Whether task gradients are rescaled to the norm
            `L_k`, as in the released code but not in the paper. Defaults to
            `True`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.MoCo(beta=1.0, learning_rate=1.0, match_losses=False)
    >>> weighting.build((2, 1))
    >>> gradients = np.array([[1.0], [0.0]], dtype="float32")
    >>> direction, weights = weighting.direction(gradients, np.ones(2, "float32"), np.ones(2, "float32"))
    >>> weights.numpy().tolist()
    [0.25, 0.75]

    References:
        - Fernando et al., "Mitigating gradient bias in multi-objective
          learning: a provably convergent approach", ICLR 2023.

    Deviations: an absent task's `y_k`, `w_k` and step count stay as they are,
    and the others share the rest of the simplex. Heads get their own task's
    plain gradient, of neither the weights nor the norm `L_k`.
    """

    def __init__(
        self,
        beta: float = 0.5,
        learning_rate: float = 0.1,
        rho: float = 0.0,
        beta_sigma: float = 0.5,
        learning_rate_sigma: float = 0.5,
        projection: Literal["simplex", "softmax"] = "simplex",
        match_losses: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if projection not in ("simplex", "softmax"):
            raise ValueError(f'`projection` should be "simplex" or "softmax". Received: projection={projection!r}')
        self.beta = check_number(beta, "beta", above=0, most=1)
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.rho = check_number(rho, "rho", least=0)
        self.beta_sigma = check_number(beta_sigma, "beta_sigma", least=0)
        self.learning_rate_sigma = check_number(learning_rate_sigma, "learning_rate_sigma", least=0)
        self.projection = projection
        self.match_losses = check_boolean(match_losses, "match_losses")

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.tracked = self.add_state("tracked", tuple(input_shape))
        self.current_weights = self.add_state("current_weights", shape, 1.0 / self.num_tasks)
        self.steps = self.add_state("steps", shape)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        jacobian = jacobian * present[:, None]
        if self.match_losses:
            largest = ops.max(ops.abs(jacobian), axis=1, keepdims=True)
            unit = divide(jacobian, largest)
            jacobian = divide(unit, ops.sqrt(ops.sum(unit * unit, axis=1, keepdims=True))) * losses[:, None]
        steps = self.steps + present
        since = ops.maximum(steps, 1.0)
        beta = present * self.beta / ops.power(since, self.beta_sigma)
        learning_rate = self.learning_rate / ops.power(since, self.learning_rate_sigma)
        tracked = self.tracked - beta[:, None] * (self.tracked - jacobian)

        mass, weights = restrict(self.current_weights.value, present)
        slope = ops.matmul(tracked, ops.matmul(ops.transpose(tracked), weights)) + self.rho * weights
        move = project_to_simplex if self.projection == "simplex" else masked_softmax
        # A slope that overflowed would make a NaN of inf - inf.
        weights = move(ops.clip(weights - learning_rate * slope, -1e30, 1e30), present)
        self.tracked.assign(tracked)
        self.current_weights.assign(ops.where(present > 0, mass * weights, self.current_weights.value))
        self.steps.assign(steps)
        return ops.matmul(weights, tracked), weights

    def get_config(self) -> dict[str, Any]:
        options = ("beta", "learning_rate", "rho", "beta_sigma", "learning_rate_sigma", "projection", "match_losses")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
