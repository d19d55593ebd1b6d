"""The maximum mean discrepancy between the groups' scores."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_penalty import GroupPenalty

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


@keras.saving.register_keras_serializable(package="keras_mtl")
class MMDPenalty(GroupPenalty):
    """How far apart the distributions of the groups' scores are, on a batch.

    `R = max_{a<b} (E k(p_a, p_a') + E k(p_b, p_b') - 2 E k(p_a, p_b))` with the Gaussian kernel
    `k(s, t) = exp(-(s - t)^2 / (2 bandwidth^2))`: the squared maximum mean discrepancy, estimated
    without bias, so that it is about 0, and may be a little below, where the distributions are
    equal. Among negatives it brings the false positive rates of the groups together, at every
    threshold, among positives the true positive rates.

    Args:
        column: String. Key of the groups in `y`. See `ParityPenalty` for it
            and for the other arguments.
        strength: Float. Weight of the penalty. Defaults to 1.
        bandwidth: Float. Width of the kernel, on the scale of the scores.
            Defaults to 0.1.
        name: String. Name in the logs, after the task. Defaults to `"mmd"`.
        **options: `among`, `bound`, `multiplier_rate`, `max_multiplier`,
            `from_logits`, `class_id` and `groups`, as in `ParityPenalty`.

    Raises:
        ValueError: As `ParityPenalty`, and if `bandwidth` is not positive.

    Example:

    >>> penalty = keras_mtl.fairness.MMDPenalty("sex", strength=5.0, among="negatives")

    References:

    - A. Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012.
    - F. Prost et al., "Toward a better trade-off between performance and fairness with kernel-based distribution
      matching", 2019, arXiv:1910.11779.
    """

    def __init__(
        self, column: str, strength: float = 1.0, *, bandwidth: float = 0.1, name: str = "mmd", **options: Any
    ) -> None:
        super().__init__(column, strength, name=name, **options)
        if not bandwidth > 0:
            raise ValueError(f"`bandwidth` should be positive. Received: bandwidth={bandwidth!r}")
        self.bandwidth = float(bandwidth)

    def measure(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor]:
        scores, _, belongs = self.members(labels, column)
        kernel = ops.exp(-0.5 * ops.square((scores[:, None] - scores[None, :]) / self.bandwidth))
        sums = ops.matmul(ops.transpose(belongs), ops.matmul(kernel, belongs))
        counts = ops.sum(belongs, axis=0)
        # An example is no pair with itself: k(s, s) = 1.
        within = ops.divide_no_nan(ops.diagonal(sums) - counts, counts * (counts - 1.0))
        between = ops.divide_no_nan(sums, counts[:, None] * counts[None, :])
        enough = counts > 1
        values = []
        for a, b in itertools.combinations(range(self.groups), 2):
            value = within[a] + within[b] - 2.0 * between[a, b]
            values.append(ops.where(ops.logical_and(enough[a], enough[b]), value, ops.full_like(value, -np.inf)))
        known = ops.sum(ops.cast(enough, "float32")) > 1
        value = ops.max(ops.stack(values))
        return ops.where(known, value, ops.zeros_like(value)), ops.cast(known, "float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bandwidth": self.bandwidth}
