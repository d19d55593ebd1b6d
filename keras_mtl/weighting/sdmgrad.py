"""Stochastic direction-oriented multi-objective gradient descent (SDMGrad)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide
from keras_mtl.weighting._simplex import project_to_simplex, restrict
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("sdmgrad")
class SDMGrad(JacobianWeighting):
    r"""Common descent direction kept close to the mean gradient.

    The batch is split into three independent parts with task gradients `J_1`,
    `J_2`, `J_3`. With `H = J_1 J_2^T / scale^2` and `u = 1 / n` for the `n`
    present tasks, the weights descend

    ```math
    \frac{1}{2} w^\top H w + \lambda \, w^\top H u
    ```

    by `iterations` projected steps with momentum, from where the last step left them; the direction
    is `J_3^T (w + lam * u) / (1 + lam)`.

    Batch normalization passes next to nothing back from a part of one or two
    examples, so models that have it need larger batches.

    Heads, batch statistics and counters of layers see the whole batch once: heads
    get their own task's plain gradient of it, as with other methods. Each part
    takes a further forward pass, of which nothing but `J` remains.

    `lam=0` leads to the min-norm direction, a large `lam` to the mean.

    Scale: the weights, `(w + lam * u) / (1 + lam)`, sum to 1.

    Args:
        lam: Float. Pull towards the mean gradient. Defaults to `0.3`.
        learning_rate: Float. Step size of the weights. Defaults to `10.0`.
        momentum: Float in [0, 1). Momentum of the weights, from 0 at every
            training step. Defaults to `0.5`.
        iterations: Integer. Steps of the weights per training step. Defaults
            to `20`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.SDMGrad(lam=0.0)
    >>> weighting.build((2, 2))
    >>> parts = np.array([[[1.0, 0.0], [0.0, 1.0]]] * 3, dtype="float32")
    >>> direction, weights = weighting.direction(parts, np.ones((3, 2), "float32"), np.ones(2, "float32"))
    >>> direction.numpy().tolist()
    [0.5, 0.5]

    References:
        - Xiao, Ban and Ji, "Direction-oriented multi-objective learning: simple
          and provable stochastic algorithms", 2023, arXiv:2305.18409.

    Deviations: `scale` is the mean of `sqrt(||J_1k|| * ||J_2k||)`; the released
    code takes the square root of the diagonal of `J_1 J_2^T`, which may be
    negative. An absent task's weight stays as it is, and the others share the
    rest of the simplex. A task missing from one part only has a zero gradient
    there. LibMTL gives the heads the sum of the parts' gradients.
    """

    sub_batches = 3

    def __init__(
        self,
        lam: float = 0.3,
        learning_rate: float = 10.0,
        momentum: float = 0.5,
        iterations: int = 20,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.lam = check_number(lam, "lam", least=0)
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.momentum = check_number(momentum, "momentum", least=0, below=1)
        self.iterations = check_integer(iterations, "iterations", 1)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.current_weights = self.add_state("current_weights", (self.num_tasks,), 1.0 / self.num_tasks)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        del losses
        count = ops.sum(present)
        mean = divide(present, count)
        # Both parts are divided by their largest entry before they are
        # multiplied: the quotient by `scale` is the same, without overflow.
        first, second = (divide(part, ops.max(ops.abs(part))) for part in (jacobian[0], jacobian[1]))
        norms = ops.sqrt(ops.sum(first * first, axis=1)) * ops.sqrt(ops.sum(second * second, axis=1))
        scale = divide(ops.sum(ops.sqrt(norms)), count)
        gramian = divide(ops.matmul(first, ops.transpose(second)), scale * scale)
        pull = self.lam * ops.matmul(gramian, mean)

        def step(_: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            weights, velocity = state
            velocity = self.momentum * velocity + ops.matmul(gramian, weights) + pull
            return project_to_simplex(weights - self.learning_rate * velocity, present), velocity

        mass, weights = restrict(self.current_weights.value, present)
        weights, _ = ops.fori_loop(0, self.iterations, step, (weights, ops.zeros_like(weights)))
        self.current_weights.assign(ops.where(present > 0, mass * weights, self.current_weights.value))
        weights = (weights + self.lam * mean) / (1.0 + self.lam)
        return ops.matmul(weights, jacobian[2]), weights

    def get_config(self) -> dict[str, Any]:
        options = ("lam", "learning_rate", "momentum", "iterations")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
