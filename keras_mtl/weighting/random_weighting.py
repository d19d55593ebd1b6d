"""Random loss weighting."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._present import masked_softmax
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("random")
class RandomWeighting(Weighting):
    r"""Draws new weights at every step: the baseline for all the others.

    The weights are, over the present tasks,

    ```math
    w = \mathrm{softmax}(z), \quad z_k \sim N(0, 1)
    ```

    Scale: the weights sum to 1, as in the paper; with `reduction="sum"` to the number of present
    tasks, so that their mean is that of equal weighting.

    Args:
        seed: Integer. Seed of the draws. Defaults to `None`, a random seed.
        reduction: `"mean"` or `"sum"`. Whether the weights sum to 1 or to the
            number of present tasks. Defaults to `"mean"`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `reduction` is neither `"mean"` nor `"sum"`.

    Example:

    >>> weighting = keras_mtl.weighting.RandomWeighting(seed=0)
    >>> round(float(sum(weighting([0.5, 2.0, 1.0]))), 5)
    1.0

    References:
        - Lin, Ye, Zhang and Tsang, "Reasonable effectiveness of random
          weighting: a litmus test for multi-task learning", 2022,
          arXiv:2111.10603.
    """

    def __init__(
        self, seed: int | None = None, reduction: Literal["mean", "sum"] = "mean", name: str | None = None
    ) -> None:
        super().__init__(name=name)
        if reduction not in ("mean", "sum"):
            raise ValueError(f'`reduction` should be "mean" or "sum". Received: reduction={reduction!r}')
        self.reduction = reduction
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._first_seed = ops.convert_to_numpy(self.seed_generator.state.value)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        logits = keras.random.normal((self.num_tasks,), dtype="float32", seed=self.seed_generator)
        weights = masked_softmax(logits, present)
        return weights * ops.sum(present) if self.reduction == "sum" else weights

    def reset_state(self) -> None:
        super().reset_state()
        self.seed_generator.state.assign(self._first_seed)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed, "reduction": self.reduction}
