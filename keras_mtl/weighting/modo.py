"""Multi-objective gradient with double sampling (MoDo)."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._simplex import project_to_simplex, restrict
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.registry import register


@register("modo")
class MoDo(JacobianWeighting):
    r"""Finds the common descent direction without the bias of one mini-batch.

    The batch is split into independent parts with task gradients `J_1`,
    `J_2`, `J_3`. With the learning rate `a` and `P` the projection onto the simplex, the
    weights follow

    ```math
    w \leftarrow P\big( w - a (J_1 J_2^\top w + \rho w) \big)
    ```

    `J_1 J_2^T` estimates the Gramian without bias, which `J_1 J_1^T` does not. The direction is
    `J_3^T w`.

    Batch normalization passes next to nothing back from a part of one or two
    examples, so models that have it need larger batches.

    `sub_batches=2` takes the mean of `J_1` and `J_2` for the direction
    instead: larger parts, at the price that the weights and the gradients
    they multiply are no longer independent.

    Heads, batch statistics and counters of layers see the whole batch once: heads
    get their own task's plain gradient of it, as with other methods. Each part
    takes a further forward pass, of which nothing but `J` remains.

    Scale: the weights of the present tasks sum to 1.

    Args:
        learning_rate: Float. Step size of the weights. It meets the squared scale of
            the gradients, so it needs tuning. Defaults to `1e-3`.
        rho: Float. Pulls the weights together. Defaults to `0.1`.
        sub_batches: 2 or 3. Defaults to `3`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> weighting = keras_mtl.weighting.MoDo(learning_rate=1.0, rho=0.0)
    >>> weighting.build((2, 1))
    >>> parts = np.array([[[1.0], [0.0]]] * 3, dtype="float32")
    >>> direction, weights = weighting.direction(parts, np.ones((3, 2), "float32"), np.ones(2, "float32"))
    >>> weights.numpy().tolist()
    [0.25, 0.75]

    References:
        - Chen, Fernando, Ying and Chen, "Three-way trade-off in
          multi-objective learning: optimization, generalization and
          conflict-avoidance", 2023, arXiv:2305.20057.

    Deviations: an absent task's weight stays as it is, and the others share
    the rest of the simplex. A task missing from one part only has a zero
    gradient there. LibMTL gives the heads a third of the sum of the
    parts' gradients, which is not the batch's where labels are uneven.
    """

    def __init__(
        self, learning_rate: float = 1e-3, rho: float = 0.1, sub_batches: int = 3, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        if sub_batches not in (2, 3):
            raise ValueError(f"`sub_batches` should be 2 or 3. Received: sub_batches={sub_batches}")
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.rho = check_number(rho, "rho", least=0)
        self.sub_batches = sub_batches

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.current_weights = self.add_state("current_weights", (self.num_tasks,), 1.0 / self.num_tasks)

    def direction(self, jacobian: Tensor, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        del losses
        mass, weights = restrict(self.current_weights.value, present)
        slope = ops.matmul(jacobian[0], ops.matmul(ops.transpose(jacobian[1]), weights)) + self.rho * weights
        # A slope that overflowed would make a NaN of inf - inf.
        weights = project_to_simplex(ops.clip(weights - self.learning_rate * slope, -1e30, 1e30), present)
        self.current_weights.assign(ops.where(present > 0, mass * weights, self.current_weights.value))
        gradients = jacobian[2] if self.sub_batches == 3 else ops.mean(jacobian, axis=0)
        return ops.matmul(weights, gradients), weights

    def get_config(self) -> dict[str, Any]:
        options = ("learning_rate", "rho", "sub_batches")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
