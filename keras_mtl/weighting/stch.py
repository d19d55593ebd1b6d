"""Smooth Tchebycheff scalarization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_mtl._checks import check_integer, check_number, check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting._preference import Preference
from keras_mtl.weighting._present import divide, floored, masked_softmax
from keras_mtl.weighting.registry import register


@register("stch")
class STCH(Preference):
    r"""Minimizes a smooth maximum of the task losses.

    `form="plain"` is the paper's scalarization, with preference `p` and ideal
    point `z`:

    ```math
    L = \mu \log \sum_k \exp\big( p_k (L_k - z_k) / \mu \big)
    ```

    The weight of task `k` is `p_k * softmax(p * (L - z) / mu)_k`.

    `form="log"` is what the paper trains multi-task models with. For
    `warmup_epochs` epochs and the one after them it minimizes
    `sum_k log L_k`; the mean losses of that last epoch are the nadir `n`. From
    then on it minimizes `K * mu * log(sum_k exp(q_k * log(L_k / n_k) / mu))`,
    with `q = K * p`.

    Scale: the weights sum to 1 / K (plain, equal preferences); the weighted
    losses sum to the number of present tasks (log). A `mu` near 0 trains the
    worst task alone, a large one approaches equal weights.

    Args:
        mu: Float. Smoothness. Defaults to `1.0`.
        form: `"log"` or `"plain"`. Defaults to `"log"`.
        preference: Dict from tasks to numbers, or list of K numbers, at least
            0; they are divided by their sum. Defaults to `None`, 1 / K.
        warmup_epochs: Integer. Epochs before the one that measures the nadir
            (`form="log"`). Defaults to `4`.
        reference: Float or list of K floats. Ideal point (`form="plain"`).
            Defaults to `0.0`.
        floor: Float. Losses below it are read as `floor` by logarithms.
            Defaults to `1e-8`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range or not of length K, or
            `preference` has negative numbers, is all 0 or does not fit the
            tasks.

    Example:

    >>> weighting = keras_mtl.weighting.STCH(mu=0.1, form="plain")
    >>> (3 * weighting([1.0, 2.0, 3.0])).numpy().round(4).tolist()
    [0.0012, 0.0344, 0.9644]

    References:
        - Lin et al., "Smooth Tchebycheff scalarization for multi-objective
          optimization", 2024, arXiv:2402.19078.

    Deviations: a task that is absent from the whole nadir epoch takes its
    nadir from the first later epoch that has it, and until then counts as
    being at its nadir.
    """

    def __init__(
        self,
        mu: float = 1.0,
        form: Literal["log", "plain"] = "log",
        preference: Mapping[str, float] | Sequence[float] | None = None,
        warmup_epochs: int = 4,
        reference: float | Sequence[float] = 0.0,
        floor: float = 1e-8,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if form not in ("log", "plain"):
            raise ValueError(f'`form` should be "log" or "plain". Received: form={form!r}')
        self.mu = check_number(mu, "mu", above=0)
        self.form = form
        self.set_preference(preference)
        self.warmup_epochs = check_integer(warmup_epochs, "warmup_epochs", 0)
        self.reference = check_numbers(reference, "reference")
        self.floor = check_number(floor, "floor", above=0)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        if np.ndim(self.reference) and len(self.reference) != self.num_tasks:
            raise ValueError(
                f"`reference` should have one value for each of {self.num_tasks} tasks. "
                f"Received: reference={self.reference}"
            )
        self._reference = np.broadcast_to(np.array(self.reference, dtype="float32"), shape)
        self.epoch = self.add_state("epoch", ())
        self.nadir = self.add_state("nadir", shape)  # 0: not measured yet
        self.loss_sum = self.add_state("loss_sum", shape)
        self.batches = self.add_state("batches", shape)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del gramian
        shares = ops.convert_to_tensor(self.shares(self.num_tasks), "float32")
        if self.form == "plain":
            return shares * masked_softmax(shares * (losses - self._reference) / self.mu, present)
        losses = floored(losses, present, self.floor)
        warm = present / losses
        preference = shares * self.num_tasks
        ratios = ops.where(
            self.nadir.value > 0, ops.log(losses) - ops.log(ops.maximum(self.nadir.value, self.floor)), 0.0
        )
        smooth = ops.sum(present) * preference * masked_softmax(preference * ratios / self.mu, present) / losses
        return ops.where(self.epoch.value > self.warmup_epochs, smooth, warm)

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del weights, gramian
        measured = present * ops.cast(self.epoch >= self.warmup_epochs, "float32")
        self.loss_sum.assign_add(losses * measured)
        self.batches.assign_add(measured)

    def end_epoch(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        missing = ops.logical_and(self.nadir <= 0, self.batches > 0)
        mean = divide(ops.convert_to_tensor(self.loss_sum), ops.convert_to_tensor(self.batches))
        self.nadir.assign(ops.where(missing, ops.maximum(mean, self.floor), self.nadir.value))
        self.epoch.assign_add(1.0)
        self.loss_sum.assign(ops.zeros_like(self.loss_sum.value))
        self.batches.assign(ops.zeros_like(self.batches.value))

    def get_config(self) -> dict[str, Any]:
        options = ("mu", "form", "warmup_epochs", "reference", "floor")
        return {**super().get_config(), **{option: getattr(self, option) for option in options}}
