"""The base of metrics on groups."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Tensor
from keras_mtl.fairness._scores import check_groups_option, check_members, check_scores, read_groups, read_scores


class GroupMetric(keras.metrics.Metric):
    """A metric that compares the decisions that groups get.

    It counts the examples of each group by label and decision; subclasses make a number of the
    rates in `result`.

    Args:
        column: String. Key of the groups in `y`: 0 to `groups - 1`, or less
            than 0 or NaN where the group is unknown, and the example not
            counted.
        threshold: Float. Scores above it are decided as positive.
        from_logits: Boolean. Whether predictions are logits; the threshold is
            then one of probabilities all the same.
        class_id: Integer. Which of several classes is the positive one.
        groups: Integer. The number of groups.
        name: String. Name of the metric.
    """

    by_label = False

    def __init__(
        self,
        column: str,
        threshold: float = 0.5,
        from_logits: bool = False,
        class_id: int | None = None,
        groups: int = 2,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if not isinstance(column, str) or not column:
            raise ValueError(f"`column` should be a key of `y`. Received: column={column!r}")
        self.column = column
        self.threshold = float(threshold)
        self.from_logits = check_boolean(from_logits, "from_logits")
        self.class_id = class_id
        self.groups = check_groups_option(groups)
        # By group, label and decision.
        self.counts = self.add_weight(shape=(groups, 2, 2), initializer="zeros", name="counts")

    def check_task(self, task: str, loss: keras.losses.Loss, shape: Shape) -> None:
        """Raises where the metric does not suit a task. `compile` calls it."""
        what = f"Metric '{self.name}'"
        check_scores(what, task, loss, shape, self.from_logits, self.class_id, labels=self.by_label)

    def check_column(self, task: str, values: np.ndarray) -> None:
        """Raises where a group has no members, or a value is no group. `fit` calls it."""
        check_members(task, self.column, values, self.groups)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None, groups: Tensor | None = None
    ) -> None:
        """Adds one batch.

        Args:
            y_true: Labels of shape `(n,)`, `(n, 1)` or, one-hot, `(n, C)`.
            y_pred: Predictions of shape `(n,)`, `(n, 1)` or `(n, C)`.
            sample_weight: `None` or tensor of n weights.
            groups: Tensor of n groups: the column.
        """
        if groups is None:
            raise ValueError(f"Metric '{self.name}' should be given `groups`. Received: groups=None")
        scores, positive = read_scores(y_true, y_pred, self.from_logits, self.class_id)
        decided = ops.cast(scores > self.threshold, "float32")
        belongs = read_groups(groups, self.groups)
        if sample_weight is not None:
            belongs = belongs * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        labels = ops.stack([1.0 - positive, positive], axis=-1)
        decisions = ops.stack([1.0 - decided, decided], axis=-1)
        self.counts.assign_add(ops.einsum("ng,nl,nd->gld", belongs, labels, decisions))

    def rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """The groups' shares of positive decisions, NaN where nobody is.

        Returns:
            Tuple of three tensors of shape `(G,)`: among all, among positives
            (true positive rate) and among negatives (false positive rate).
        """
        counts = self.counts.value
        return _share(ops.sum(counts, axis=1)), _share(counts[:, 1]), _share(counts[:, 0])

    def get_config(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "threshold": self.threshold,
            "from_logits": self.from_logits,
            "class_id": self.class_id,
            "groups": self.groups,
            "name": self.name,
        }


def _share(counts: Tensor) -> Tensor:
    total = counts[:, 0] + counts[:, 1]
    share = ops.divide_no_nan(counts[:, 1], total)
    return ops.where(total > 0, share, ops.full_like(share, np.nan))


def gap(rates: Tensor) -> Tensor:
    """The largest difference between two groups' rates; NaN where one is."""
    return ops.max(rates) - ops.min(rates) + 0.0 * ops.sum(rates)
