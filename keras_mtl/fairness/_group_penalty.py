"""The base of penalties on groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._types import Shape, Tensor
from keras_mtl.fairness._scores import check_among, check_groups_option, check_members, check_scores, members
from keras_mtl.penalties import Penalty

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


class GroupPenalty(Penalty):
    """A penalty that compares the scores of groups.

    Args:
        column: String. Key of the groups in `y`: 0 to `groups - 1`, or less
            than 0 or NaN where the group is unknown.
        strength: Float. Weight of the penalty; with `bound`, where the
            multiplier starts.
        among: `None`, `"positives"` or `"negatives"`. The examples to look at,
            by their label.
        bound: Float or `None`. See `Penalty`.
        multiplier_rate: Float. Step size of the multiplier.
        max_multiplier: Float. The multiplier's largest value.
        from_logits: Boolean. Whether predictions are logits.
        class_id: Integer. Which of several classes is the positive one.
        groups: Integer. The number of groups.
        name: String. Name in the logs, after the task.
    """

    def __init__(
        self,
        column: str | None,
        strength: float = 1.0,
        *,
        among: str | None = None,
        bound: float | None = None,
        multiplier_rate: float = 0.1,
        max_multiplier: float = 100.0,
        from_logits: bool = False,
        class_id: int | None = None,
        groups: int = 2,
        name: str | None = None,
    ) -> None:
        super().__init__(column, strength, bound, multiplier_rate, max_multiplier, name=name)
        self.among = check_among(among)
        self.from_logits = check_boolean(from_logits, "from_logits")
        self.class_id = class_id
        self.groups = check_groups_option(groups)

    def check_task(self, task: str, loss: keras.losses.Loss, shape: Shape) -> None:
        what = f"Penalty '{self.name}'"
        check_scores(what, task, loss, shape, self.from_logits, self.class_id, labels=self.among is not None)

    def check_column(self, task: str, values: np.ndarray) -> None:
        """Raises where a group has no members, or a value is no group."""
        check_members(task, self.column, values, self.groups)

    def members(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores and labels of shape `(n,)`, and who counts in which group, of shape `(n, G)`."""
        return members(labels, column, self.groups, self.from_logits, self.class_id, self.among)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "among": self.among,
            "from_logits": self.from_logits,
            "class_id": self.class_id,
            "groups": self.groups,
        }
