"""The difference of the groups' true and false positive rates."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_metric import GroupMetric, gap


@keras.saving.register_keras_serializable(package="keras_mtl")
class EqualizedOddsGap(GroupMetric):
    """The larger one of the gaps in true and in false positive rates.

    `max(TPR gap, FPR gap)`, each the largest difference between two groups. 0 is equalized odds. NaN where
    a group has no positives, or no negatives.

    Args:
        column: String. Key of the groups in `y`. See `DemographicParityGap`
            for it and for the other arguments.
        name: String. Name of the metric. Defaults to `"equalized_odds_gap"`.

    Example:

    >>> metric = keras_mtl.fairness.EqualizedOddsGap("sex")
    >>> labels, scores = np.array([1, 1, 0, 1, 0]), np.array([0.9, 0.2, 0.1, 0.6, 0.7])
    >>> metric.update_state(labels, scores, groups=np.array([0, 0, 0, 1, 1]))
    >>> float(metric.result())
    1.0

    Reference:

    - M. Hardt, E. Price, N. Srebro, "Equality of Opportunity in Supervised Learning", NIPS 2016, arXiv:1610.02413.
    """

    by_label = True

    def __init__(
        self, column: str, threshold: float = 0.5, *, name: str = "equalized_odds_gap", **options: Any
    ) -> None:
        super().__init__(column, threshold, name=name, **options)

    def result(self) -> Tensor:
        _, true_positives, false_positives = self.rates()
        gaps = ops.stack([gap(true_positives), gap(false_positives)])
        return ops.max(gaps) + 0.0 * ops.sum(gaps)
