"""The covariance of a group and the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_penalty import GroupPenalty

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


@keras.saving.register_keras_serializable(package="keras_mtl")
class CovariancePenalty(GroupPenalty):
    """The covariance between belonging to a group and the score, on a batch.

    `R = max_a |cov(1[group a], p)|`. For two groups with shares q and 1 - q that is `q (1 - q)` times
    the R of `ParityPenalty`: groups count by their size.

    Args:
        column: String. Key of the groups in `y`. See `ParityPenalty` for it
            and for the other arguments.
        strength: Float. Weight of the penalty. Defaults to 1.
        name: String. Name in the logs, after the task. Defaults to
            `"covariance"`.
        **options: `among`, `bound`, `multiplier_rate`, `max_multiplier`,
            `from_logits`, `class_id` and `groups`, as in `ParityPenalty`.

    Raises:
        ValueError: As `ParityPenalty`.

    Example:

    >>> penalty = keras_mtl.fairness.CovariancePenalty("sex", strength=10.0, among="negatives")

    Reference:

    - M. B. Zafar, I. Valera, M. Gomez Rodriguez, K. P. Gummadi, "Fairness Constraints: Mechanisms for Fair
      Classification", AISTATS 2017, arXiv:1507.05259.

    Deviations: the paper constrains the covariance with the signed distance to the decision boundary of a linear
    classifier; here it is with the score, a probability, of any network, as a penalty or as a constraint.
    """

    def __init__(self, column: str, strength: float = 1.0, *, name: str = "covariance", **options: Any) -> None:
        super().__init__(column, strength, name=name, **options)

    def measure(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor]:
        scores, _, belongs = self.members(labels, column)
        total = ops.sum(belongs)
        counted = ops.sum(belongs, axis=-1, keepdims=True)
        shares = ops.divide_no_nan(ops.sum(belongs, axis=0), total)
        centered = (belongs - shares) * counted
        covariances = ops.divide_no_nan(ops.sum(centered * scores[:, None], axis=0), total)
        known = ops.sum(ops.cast(shares > 0, "float32")) > 1
        return ops.max(ops.abs(covariances)), ops.cast(known, "float32")
