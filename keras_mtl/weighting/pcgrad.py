"""PCGrad: each task gradient loses its conflicting parts, one other task at a time."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._projection import ORDERS, meet_in_order, task_orders
from keras_mtl.weighting._scaling import unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register


@register("pcgrad")
class PCGrad(GramianWeighting):
    r"""Sum of the task gradients after each is projected off those it conflicts with.

    For every task i and every other task j in random order, with the original `g_j`:

    ```math
    g_i \leftarrow g_i - \frac{g_i \cdot g_j}{\|g_j\|^2} \, g_j \quad \text{where} \quad g_i \cdot g_j < 0
    ```

    The direction is `sum_i g_i`. Each task draws its own order at every call. All tasks advance
    together, so a call takes K steps rather than K^2.

    For two tasks the direction conflicts with neither and is twice UPGrad's; for more it may
    conflict.

    Scale: sum-like; without conflict every weight is 1. Linear under row scaling.

    Degenerate gradients: a present task with a zero gradient keeps weight 1 and affects no other;
    opposite gradients cancel.

    Args:
        order: `"random"`, or `"fixed"` for the order of the tasks. Defaults to `"random"`.
        seed: Integer. Seed of the orders. Defaults to a random one.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `order` is unknown.

    Example:

    >>> weighting = keras_mtl.weighting.PCGrad()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [2.2222, 1.5789]

    References:

    - Yu et al., "Gradient Surgery for Multi-Task Learning", 2020, arXiv:2001.06782.

    Deviations: none from the paper. The official code meant to shuffle the tasks but discards the
    result, so it always uses one fixed order.
    """

    def __init__(
        self,
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
        self.order = order
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        orders = task_orders(norms.shape[0], self.order, self.seed_generator)

        def push(cosine: Tensor, length: Tensor, task: Tensor) -> Tensor:
            return ops.maximum(-cosine, 0.0) * length

        weights = meet_in_order(cosines, orders, push)[0]
        # Row i holds g_i's combination of unit gradients, in units of ||g_i||.
        weights = ops.where(alive[:, None], weights * norms[:, None], 0.0) / norms[None, :]
        return ops.where(alive, ops.sum(weights, axis=0), present)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "order": self.order, "seed": self.seed}
