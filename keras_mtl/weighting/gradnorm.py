"""GradNorm: weights that bring the tasks' gradient norms and training rates together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

from keras_mtl._checks import check_boolean, check_number, check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register

SMALLEST_WEIGHT = 1e-4


@register("gradnorm")
class GradNorm(GramianWeighting):
    r"""Weights learned so that tasks that train slowly get larger gradients.

    With `n_k` the norm of task k's gradient, `N_k = w_k n_k`, `N` their mean and `r_k` the ratio
    `L_k / L_k(0)` divided by its mean over tasks, every batch makes one step on

    ```math
    \sum_k \big| N_k - N r_k^\alpha \big|
    ```

    with the target held constant: `w_k <- w_k - learning_rate * sign(N_k - N r_k^alpha) n_k`. Then
    the weights are divided so that they sum to K. No second-order derivative is needed: `n_k` is
    the root of the Gramian's diagonal. A batch is weighed by the weights from before its own
    update. Means are over the tasks of the batch whose first loss is known; losses and gradients
    are those times `loss_weights`.

    The paper takes the norms at the last shared layer; compile with `gradients="last_shared"` for
    that, and for its speed. With the default they are those of all shared parameters.

    State: `current_weights`, and `initial_losses` (0 until known, then the task's loss in its first
    batch). Absent tasks keep theirs; the present ones share what those leave of K.

    Scale: sum-like, the weights of all tasks sum to K and each is at least 1e-4 before dividing.

    Degenerate gradients: a task with a zero gradient keeps its weight up to the division. Steps
    with a norm or loss that is not finite, and tasks whose loss is not positive at first, change
    nothing.

    Args:
        alpha: Float. Strength of the pull towards equal training rates, at least 0. Defaults to `1.5`.
        learning_rate: Float. Step size of the weights, positive. Defaults to `0.025`.
        relative: Boolean. Divide the step by the mean of `n_k`, so that `learning_rate` does not
            depend on the scale of the losses. Defaults to `False`.
        initial_losses: Sequence of K positive floats, such as `log(C)` for a C-way classifier.
            Defaults to the losses of each task's first batch.
        reduction: See `GramianWeighting`. Defaults to `None`.
        every: Integer. Update the weights every `every` steps. Defaults to `1`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `alpha` is negative, or `learning_rate` or an initial loss is not positive.

    Example:

    >>> weighting = keras_mtl.weighting.GradNorm(alpha=0.0, learning_rate=0.1)
    >>> losses, present, gramian = np.ones(2), np.ones(2), np.diag([1.0, 9.0])
    >>> weights = weighting(losses, present, gramian)
    >>> weighting.update(losses, present, weights, gramian)
    >>> np.round(weighting(losses, present, gramian), 4).tolist()
    [1.2222, 0.7778]

    References:

    - Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
      Networks", ICML 2018, arXiv:1711.02257.

    Deviations: weights are kept at 1e-4 or more, as the paper's update may make them negative; its
    weights are learned by the model's optimizer, here by plain gradient descent. Its weighted loss
    trains the heads too; here the weights are those of shared parameters, and heads get their own
    task's plain gradient.
    """

    def __init__(
        self,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        relative: bool = False,
        initial_losses: Sequence[float] | None = None,
        reduction: Literal["sum", "mean"] | None = None,
        every: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, every=every, name=name)
        if initial_losses is not None:
            initial_losses = check_numbers(initial_losses, "initial_losses", above=0)
            if not isinstance(initial_losses, list):
                raise ValueError(f"`initial_losses` should be a list of numbers. Received: {initial_losses=}")
        self.alpha = check_number(alpha, "alpha", least=0)
        self.learning_rate = check_number(learning_rate, "learning_rate", above=0)
        self.relative = check_boolean(relative, "relative")
        self.given_initial_losses = initial_losses

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        given = self.given_initial_losses
        if given is not None and len(given) != self.num_tasks:
            raise ValueError(
                f"`initial_losses` should have one entry for each of {self.num_tasks} tasks. "
                f"Received: initial_losses={given}"
            )
        self.current_weights = self.add_state("current_weights", (self.num_tasks,), 1.0)
        given = np.zeros(self.num_tasks) if given is None else np.array(given)
        self.initial_losses = self.add_state("initial_losses", (self.num_tasks,), given)

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        """The current weights; they change in `update(...)` only."""
        if not self.built:
            self.build(gramian.shape[:1])
        weights = ops.cast(self.current_weights, "float64")
        return weights if present is None else weights * ops.cast(present, "float64")

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        losses = ops.cast(losses, "float64")
        present = ops.cast(present, "float64")
        usable = ops.logical_and(present > 0, ops.logical_and(losses > 0, ops.isfinite(losses)))
        known = ops.cast(self.initial_losses, "float64")
        known = ops.where(ops.logical_and(known == 0, usable), losses, known)
        self.initial_losses.assign(ops.cast(known, "float32"))
        if gramian is None:
            return
        # Tasks that were never seen with a usable loss have no training rate yet.
        live = ops.cast(ops.logical_and(present > 0, known > 0), "float64")
        count = ops.maximum(ops.sum(live), 1.0)
        norms = ops.sqrt(ops.diagonal(ops.cast(gramian, "float64")))
        rates = ops.where(live > 0, ops.maximum(losses, 0.0) / ops.where(known > 0, known, 1.0), 0.0)
        mean_rate = ops.sum(rates) / count
        rates = rates / ops.where(mean_rate > 0, mean_rate, 1.0)
        old = ops.cast(self.current_weights, "float64")
        weighted = old * norms
        target = ops.sum(live * weighted) / count * rates**self.alpha
        step = self.learning_rate * ops.sign(weighted - target) * norms
        if self.relative:
            mean_norm = ops.sum(live * norms) / count
            step = step / ops.where(mean_norm > 0, mean_norm, 1.0)
        new = ops.where(live > 0, ops.maximum(old - step, SMALLEST_WEIGHT), old)
        share = ops.sum(live * old)
        new = ops.where(live > 0, new * share / ops.maximum(ops.sum(live * new), SMALLEST_WEIGHT), old)
        new = ops.where(ops.all(ops.isfinite(new)), new, old)
        self.current_weights.assign(ops.cast(new, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
            "relative": self.relative,
            "initial_losses": self.given_initial_losses,
        }
