"""The difference of the groups' true positive rates."""

from __future__ import annotations

from typing import Any

import keras

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_metric import GroupMetric, gap


@keras.saving.register_keras_serializable(package="keras_mtl")
class EqualOpportunityGap(GroupMetric):
    """The largest difference between the true positive rates of two groups.

    `max_{a,b} |P(d = 1 | y = 1, group a) - P(d = 1 | y = 1, group b)|`. 0 is equal opportunity. NaN where a
    group has no positives.

    Args:
        column: String. Key of the groups in `y`. See `DemographicParityGap`
            for it and for the other arguments.
        name: String. Name of the metric. Defaults to
            `"equal_opportunity_gap"`.

    Example:

    >>> metric = keras_mtl.fairness.EqualOpportunityGap("sex")
    >>> metric.update_state(np.array([1, 1, 0, 1]), np.array([0.9, 0.2, 0.7, 0.6]), groups=np.array([0, 0, 1, 1]))
    >>> float(metric.result())
    0.5

    Reference:

    - M. Hardt, E. Price, N. Srebro, "Equality of Opportunity in Supervised Learning", NIPS 2016, arXiv:1610.02413.
    """

    by_label = True

    def __init__(
        self, column: str, threshold: float = 0.5, *, name: str = "equal_opportunity_gap", **options: Any
    ) -> None:
        super().__init__(column, threshold, name=name, **options)

    def result(self) -> Tensor:
        return gap(self.rates()[1])
