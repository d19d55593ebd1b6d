"""Relative loss balancing with random lookback (ReLoBRaLo)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import masked_softmax
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register

_FLOOR = 1e-12
_LARGEST_RATIO = 1e30


@register("relobralo")
class ReLoBRaLo(Weighting):
    r"""Gives more weight to the tasks whose loss fell little, since the last step or since the first.

    With `b_k(t, s) = K * softmax(L(t) / (temperature * L(s)))_k` the balance of step `t` with respect to
    step `s`, and a draw `r(t)` that is 1 with probability `rho` and 0 otherwise, the weights are

    ```math
    w(t) = \alpha \big( r(t) \, w(t-1) + (1 - r(t)) \, b(t, 0) \big) + (1 - \alpha) \, b(t, t-1)
    ```

    They are 1 in a task's first step and `b(t, t-1)` in its second. The exponential average takes
    out the noise of single batches; the draw now and then replaces what it has gathered by the
    progress since training began.

    Only rates count, never the losses' own scale.

    State: the weights, each task's first and last loss, the number of its steps up to 2, and the seed.

    Scale: without absent tasks the weights sum to K.

    Args:
        temperature: Float. Low values give nearly all weight to the task that fell least, high values make
            the weights equal. Defaults to `1.0`.
        alpha: Float from 0 to 1. How much of the last weights is kept. Defaults to `0.999`.
        rho: Float from 0 to 1. Probability with which they are those of the last step, and not of a look
            back to the first. Defaults to `0.999`.
        seed: Integer or `None`. Seed of the draws.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `temperature` is not positive, or `alpha` or `rho` is not within [0, 1].

    Example:

    >>> weighting = keras_mtl.weighting.ReLoBRaLo(alpha=0.5, rho=1.0)
    >>> weighting.build((2,))
    >>> present = np.ones(2)
    >>> for losses in ([1.0, 8.0], [0.5, 8.0]):
    ...     weights = weighting(losses)
    ...     weighting.update(np.array(losses), present, weights)
    >>> weights.numpy().round(4).tolist()  # 2 * softmax(0.5, 1)
    [0.7551, 1.2449]

    References:
        - Bischof and Kraus, "Multi-objective loss balancing for physics-informed
          deep learning", 2021, arXiv:2110.09813.

    Deviations: the official code's default is `rho=1`, no look back, and it takes the losses of the second
    step for the first ones. Here the softmax is over the tasks of the batch that were seen before, K is their
    number, and the others keep their weights: a task that is alone in its batches gets the weight 1. Losses
    below 1e-12 are read as 1e-12 (the official code adds that much to the divisor).
    """

    def __init__(
        self,
        temperature: float = 1.0,
        alpha: float = 0.999,
        rho: float = 0.999,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.temperature = check_number(temperature, "temperature", above=0)
        self.alpha = check_number(alpha, "alpha", least=0, most=1)
        self.rho = check_number(rho, "rho", least=0, most=1)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._first_seed = ops.convert_to_numpy(self.seed_generator.state.value)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.current_weights = self.add_state("current_weights", shape, 1.0)
        self.first_losses = self.add_state("first_losses", shape, 1.0)
        self.last_losses = self.add_state("last_losses", shape, 1.0)
        self.steps = self.add_state("steps", shape)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        known = present * ops.cast(self.steps > 0, "float32")
        kept = self.current_weights.value
        if self.rho < 1:
            draw = keras.random.uniform((), dtype="float32", seed=self.seed_generator)
            kept = ops.where(draw < self.rho, kept, self._balance(losses, self.first_losses.value, known))
        alpha = self.alpha * ops.cast(self.steps >= 2, "float32")
        weights = alpha * kept + (1.0 - alpha) * self._balance(losses, self.last_losses.value, known)
        return ops.where(known > 0, weights, self.current_weights.value) * present

    def _balance(self, losses: Tensor, since: Tensor, known: Tensor) -> Tensor:
        ratios = ops.maximum(losses, _FLOOR) / ops.maximum(since, _FLOOR)
        return ops.sum(known) * masked_softmax(ops.minimum(ratios, _LARGEST_RATIO), known, self.temperature)

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del gramian
        here = present > 0
        # The weights of this step, not worked out again: that would be another draw.
        self.current_weights.assign(ops.where(here, weights, self.current_weights.value))
        self.first_losses.assign(
            ops.where(ops.logical_and(here, self.steps.value == 0), losses, self.first_losses.value)
        )
        self.last_losses.assign(ops.where(here, losses, self.last_losses.value))
        self.steps.assign(ops.minimum(self.steps.value + present, 2.0))

    def reset_state(self) -> None:
        super().reset_state()
        self.seed_generator.state.assign(self._first_seed)

    def get_config(self) -> dict[str, Any]:
        options = ("temperature", "alpha", "rho", "seed")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
