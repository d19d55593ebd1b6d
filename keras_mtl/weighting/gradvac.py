"""GradVac: task gradients pulled towards their usual similarity."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._projection import ORDERS, meet_in_order, task_orders
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register

LARGEST_TARGET = 1.0 - 1e-6


@register("gradvac")
class GradVac(GramianWeighting):
    r"""Sum of the task gradients after each is turned to have at least its usual cosine with others.

    For every task i and every other task j in random order, with c the cosine of the changed `g_i`
    with `g_j` and t its target, where `c < t`:

    ```math
    g_i \leftarrow g_i + \frac{\|g_i\| \big( t \sqrt{1 - c^2} - c \sqrt{1 - t^2} \big)}{\|g_j\| \sqrt{1 - t^2}} \, g_j
    ```

    Then `t <- (1 - beta) t + beta c`. The direction is `sum_i g_i`. Targets start at 0, which makes
    the first step PCGrad's.

    Targets are the state `targets`, of shape `(K, K)`. Every call of `solve` updates those of the
    pairs of tasks that are present with a gradient.

    Scale: sum-like; without pulls every weight is 1. Linear under row scaling.

    Degenerate gradients: a present task with a zero gradient keeps weight 1 and affects no other;
    opposite gradients cancel while their targets are 0. Targets are kept within 1 - 1e-6 of 0, so
    that the coefficient stays below 1000 norms.

    Args:
        beta: Float between 0 and 1. Speed at which targets follow the cosines. Defaults to `0.01`.
        order: `"random"`, or `"fixed"` for the order of the tasks. Defaults to `"random"`.
        seed: Integer. Seed of the orders. Defaults to a random one.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `beta` is outside [0, 1] or `order` is unknown.

    Example:

    >>> weighting = keras_mtl.weighting.GradVac()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [2.2222, 1.5789]

    References:

    - Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
      Massively Multilingual Models", ICLR 2021, arXiv:2010.05874.

    Deviations: the paper's targets are per layer or per parameter group, here they are for all
    shared parameters. LibMTL and TorchJD use `beta=0.5`; 0.01 is the paper's.
    """

    def __init__(
        self,
        beta: float = 0.01,
        order: Literal["random", "fixed"] = "random",
        seed: int | None = None,
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        if order not in ORDERS:
            raise ValueError(f"`order` should be one of {ORDERS}. Received: order={order!r}")
        self.beta = check_number(beta, "beta", least=0, most=1)
        self.order = order
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.targets = self.add_state("targets", (self.num_tasks, self.num_tasks), 0.0)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        if not self.built:
            self.build(gramian.shape[:1])
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        orders = task_orders(norms.shape[0], self.order, self.seed_generator)
        targets = ops.clip(ops.cast(self.targets.value, "float64"), -LARGEST_TARGET, LARGEST_TARGET)
        pairs = ops.logical_and(alive[:, None], alive[None, :])

        def push(cosine: Tensor, length: Tensor, pair: Tensor) -> Tensor:
            target = ops.sum(targets * pair, axis=1)
            rest = ops.sqrt(1.0 - target**2)
            pull = length * (target * ops.sqrt(1.0 - cosine**2) / rest - cosine)
            meets = ops.sum(ops.where(pairs, pair, 0.0), axis=1) > 0
            return ops.where(ops.logical_and(meets, cosine < target), pull, 0.0)

        weights, met = meet_in_order(cosines, orders, push)
        moved = ops.logical_and(pairs, ops.isfinite(met))
        moved = ops.logical_and(moved, ops.eye(norms.shape[0], dtype="float64") == 0)
        self.targets.assign(ops.cast(ops.where(moved, targets + self.beta * (met - targets), targets), "float32"))
        weights = ops.where(alive[:, None], weights * norms[:, None], 0.0) / norms[None, :]
        return ops.where(alive, ops.sum(weights, axis=0), present)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta, "order": self.order, "seed": self.seed}
