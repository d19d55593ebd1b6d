"""The difference of the groups' rates of positive decisions."""

from __future__ import annotations

from typing import Any

import keras

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_metric import GroupMetric, gap


@keras.saving.register_keras_serializable(package="keras_mtl")
class DemographicParityGap(GroupMetric):
    """The largest difference between the shares of positive decisions of two groups.

    `max_{a,b} |P(d = 1 | group a) - P(d = 1 | group b)|`, where d = 1 for scores above the threshold.
    0 is parity. NaN where a group has no members.

    As a metric of a task, it counts the examples with a label. Without the column in `y`, as where
    only labels are at hand, it is NaN.

    Args:
        column: String. Key of the groups in `y`: 0 to `groups - 1`, or less
            than 0 or NaN where the group is unknown, and the example not
            counted.
        threshold: Float. Scores above it are decided as positive. The gap
            depends on it: fix it before models are compared. Defaults to 0.5.
        from_logits: Boolean. Whether predictions are logits; the threshold is
            one of probabilities all the same. Defaults to `False`.
        class_id: Integer. For a task of several classes, the positive one.
        groups: Integer. The number of groups. Defaults to 2.
        name: String. Name of the metric. Defaults to
            `"demographic_parity_gap"`.

    Raises:
        ValueError: If an option is out of range; at `compile`, if the task has
            no score for each example; in `fit`, if a group has no members.

    Example:

    >>> metric = keras_mtl.fairness.DemographicParityGap("sex")
    >>> metric.update_state(np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1]), groups=np.array([0, 0, 1, 1]))
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self, column: str, threshold: float = 0.5, *, name: str = "demographic_parity_gap", **options: Any
    ) -> None:
        super().__init__(column, threshold, name=name, **options)

    def result(self) -> Tensor:
        return gap(self.rates()[0])
