"""Mean over the labels of a block of the area under the ROC curve."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import Tensor
from keras_mtl.metrics._labelwise import LabelwiseMetric


@keras.saving.register_keras_serializable(package="keras_mtl")
class LabelwiseAUC(LabelwiseMetric):
    """Mean over labels of the area under the label's own ROC curve.

    A label's area is the share of its pairs of a positive and a negative entry
    in which the positive one scores higher; ties count half. Labels of which
    no positive or no negative entry is known have none and are left out of the
    mean, where `keras.metrics.AUC(multi_label=True)` takes them for 0.

    Args:
        num_labels: Integer. L, the units of the head.
        num_thresholds: Integer. Scores are counted in as many bins of equal
            width from 0 to 1; those in one bin are tied. Defaults to 200.
        from_logits: Boolean. Whether predictions are logits. Defaults to
            `False`: probabilities.
        name: String. Defaults to `"labelwise_auc"`.

    Example:

    >>> metric = keras_mtl.metrics.LabelwiseAUC(num_labels=2)
    >>> metric.update_state(np.array([[1, 1], [0, 1], [0, 1]]), np.array([[0.5, 0.2], [0.9, 0.3], [0.1, 0.4]]))
    >>> metric.by_label()  # the second label has no negative entry
    array([0.5, nan], dtype=float32)
    >>> float(metric.result())
    0.5
    """

    def __init__(
        self, num_labels: int, num_thresholds: int = 200, from_logits: bool = False, name: str = "labelwise_auc"
    ) -> None:
        super().__init__(num_labels, name)
        self.num_thresholds = check_integer(num_thresholds, "num_thresholds", 2)
        self.from_logits = check_boolean(from_logits, "from_logits")
        # Negative entries, then positive ones, by label and bin.
        shape = (2, num_labels, num_thresholds)
        self.histogram = self.add_weight(shape=shape, initializer="zeros", name="histogram")

    def add_entries(self, y_true: Tensor, y_pred: Tensor, weight: Tensor) -> None:
        scores = ops.sigmoid(y_pred) if self.from_logits else y_pred
        bins = ops.cast(ops.clip(scores, 0.0, 1.0) * self.num_thresholds, "int32")
        bins = ops.minimum(bins, self.num_thresholds - 1) + self.num_thresholds * ops.arange(self.num_labels)
        size = self.num_labels * self.num_thresholds
        places = bins + size * ops.cast(y_true > 0.5, "int32")
        counts = ops.segment_sum(ops.reshape(weight, (-1,)), ops.reshape(places, (-1,)), 2 * size)
        self.histogram.assign_add(ops.reshape(counts, self.histogram.shape))

    def values(self) -> tuple[Tensor, Tensor]:
        negatives, positives = self.histogram.value[0], self.histogram.value[1]
        below = ops.cumsum(negatives, axis=1) - negatives
        pairs = ops.sum(positives, axis=1) * ops.sum(negatives, axis=1)
        won = ops.sum(positives * (below + 0.5 * negatives), axis=1)
        return ops.divide_no_nan(won, pairs), ops.cast(pairs > 0, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            "num_labels": self.num_labels,
            "num_thresholds": self.num_thresholds,
            "from_logits": self.from_logits,
            "name": self.name,
        }
