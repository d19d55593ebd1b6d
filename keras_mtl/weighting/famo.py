"""Fast adaptive multitask optimization (FAMO)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_number, check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._present import divide, masked_softmax
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


@register("famo")
class FAMO(Weighting):
    r"""Makes the log losses of all tasks fall at the same rate.

    With `D_k = L_k - b_k` and `z = softmax(w)` of learned logits `w`, the weights are

    ```math
    \omega_k = \frac{z_k / D_k}{\sum_j z_j / D_j}
    ```

    This is descent on `sum_k z_k log D_k`, rescaled. After the optimizer's step the logits `w` take
    an Adam step down the gradient `z * (d - sum(z * d))`, `d_k = log D_k(before) - log D_k(after)`:
    the tasks that gained more lose weight.

    `form="same_batch"` measures `D(after)` by a second forward pass on the
    same batch. `form="next_batch"` uses the loss of the next batch that has
    the task, at no cost and with the noise of two batches.

    Scale: the weights of the present tasks sum to 1. The official code also
    clips the gradient to norm 1: `optimizer=Adam(global_clipnorm=1.0)`.

    Args:
        form: `"same_batch"` or `"next_batch"`. Defaults to `"same_batch"`.
        learning_rate: Float. Adam's learning rate for the logits. Defaults to
            `0.025`.
        weight_decay: Float. Pulls the logits to 0; added to their gradient
            before Adam, not decoupled. The paper uses 0.01 (Cityscapes),
            0.001 (NYUv2, CelebA, QM9) and 0 (toy). Defaults to `1e-3`.
        reference: Float or list of K floats. The losses `b` that the tasks
            can reach at best. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range or not of length K.

    Example:

    >>> weighting = keras_mtl.weighting.FAMO()
    >>> weighting([1.0, 2.0, 4.0]).numpy().round(4).tolist()
    [0.5714, 0.2857, 0.1429]

    References:
        - Liu et al., "FAMO: fast adaptive multitask optimization", 2023,
          arXiv:2306.03792.

    With gradient accumulation the logits move once for each step of the
    optimizer, by the losses of its last micro-batch.

    Deviations: `D_k` is at least 1e-8. An absent task is left out of the
    softmax, and its logit, Adam moments and step count stay as they are.
    """

    def __init__(
        self,
        form: Literal["same_batch", "next_batch"] = "same_batch",
        learning_rate: float = 0.025,
        weight_decay: float = 1e-3,
        reference: float | Sequence[float] = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if form not in ("same_batch", "next_batch"):
            raise ValueError(f'`form` should be "same_batch" or "next_batch". Received: form={form!r}')
        self.form = form
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.weight_decay = check_number(weight_decay, "weight_decay", least=0)
        self.reference = check_numbers(reference, "reference")
        self.second_forward = form == "same_batch"

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        if np.ndim(self.reference) and len(self.reference) != self.num_tasks:
            raise ValueError(
                f"`reference` should have one value for each of {self.num_tasks} tasks. "
                f"Received: reference={self.reference}"
            )
        self._reference = np.broadcast_to(np.array(self.reference, dtype="float32"), shape)
        self.logits = self.add_state("logits", shape)
        self.momentum = self.add_state("momentum", shape)
        self.velocity = self.add_state("velocity", shape)
        self.steps = self.add_state("steps", shape)
        if self.form == "next_batch":
            self.last_log = self.add_state("last_log", shape)
            self.seen = self.add_state("seen", shape)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        logits = self._next_batch(losses, present)[0] if self.form == "next_batch" else self.logits.value
        shares = masked_softmax(logits, present) / self._distance(losses)
        return divide(shares, ops.sum(shares))

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del weights, gramian
        if self.form == "next_batch":
            self._assign(self._next_batch(losses, present))
            self.last_log.assign(ops.where(present > 0, ops.log(self._distance(losses)), self.last_log.value))
            self.seen.assign(ops.maximum(self.seen.value, present))

    def after_step(self, losses: Tensor, losses_after: Tensor, present: Tensor) -> None:
        gain = ops.log(self._distance(losses)) - ops.log(self._distance(losses_after))
        self._assign(self._adam(gain, present))

    def _next_batch(self, losses: Tensor, present: Tensor) -> list[Tensor]:
        # Pure, so that `task_weights` can look one step ahead and `update` repeat it.
        present = present * self.seen
        return self._adam(self.last_log - ops.log(self._distance(losses)), present)

    def state_of_steps(self) -> list[keras.Variable]:
        return self.non_trainable_variables

    def _adam(self, gain: Tensor, present: Tensor) -> list[Tensor]:
        shares = masked_softmax(ops.convert_to_tensor(self.logits), present)
        gain = gain * present
        gradient = shares * (gain - ops.sum(shares * gain)) + self.weight_decay * self.logits
        momentum = _BETAS[0] * self.momentum + (1 - _BETAS[0]) * gradient
        velocity = _BETAS[1] * self.velocity + (1 - _BETAS[1]) * ops.square(gradient)
        steps = self.steps + 1.0
        momentum_hat = momentum / (1 - ops.power(_BETAS[0], steps))
        velocity_hat = velocity / (1 - ops.power(_BETAS[1], steps))
        logits = self.logits - self.learning_rate * momentum_hat / (ops.sqrt(velocity_hat) + _EPSILON)
        old = (self.logits.value, self.momentum.value, self.velocity.value, self.steps.value)
        return [
            ops.where(present > 0, new, was) for new, was in zip((logits, momentum, velocity, steps), old, strict=True)
        ]

    def _assign(self, values: Sequence[Tensor]) -> None:
        for variable, value in zip((self.logits, self.momentum, self.velocity, self.steps), values, strict=True):
            variable.assign(value)

    def _distance(self, losses: Tensor) -> Tensor:
        return ops.maximum(losses - self._reference + _EPSILON, _EPSILON)

    def get_config(self) -> dict[str, Any]:
        options = ("form", "learning_rate", "weight_decay", "reference")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
