"""The difference between the groups' mean scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.fairness._group_penalty import GroupPenalty

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


@keras.saving.register_keras_serializable(package="keras_mtl")
class ParityPenalty(GroupPenalty):
    """The largest difference between the mean scores of two groups of a batch.

    `R = max_{a,b} |mean(p | group a) - mean(p | group b)|`. On all examples that is demographic parity
    (the prediction does not tell the group), among positives equal opportunity, and with one
    penalty among positives and one among negatives equalized odds, each with probabilities in place
    of decisions.

    A batch is a sample: where groups are equal, R is still above 0, by about the standard error of
    a difference of means. A `bound` on R holds for its mean over batches, so for all the data the
    difference is at most that. Few members, as of rare positives, need large batches.

    Args:
        column: String. Key of the groups in `y`: 0 to `groups - 1`, or less
            than 0 or NaN where the group is unknown.
        strength: Float. Weight of the penalty; with `bound`, where the
            multiplier starts. Defaults to 1.
        among: `None`, `"positives"` or `"negatives"`. The examples to look at,
            by their label. Defaults to `None`: all.
        bound: Float. The largest R to allow, in place of a fixed weight: a
            multiplier, which is state of the model, grows while R is above it
            and falls while R is below. Defaults to `None`.
        multiplier_rate: Float. Step size of the multiplier. Defaults to 0.1.
        max_multiplier: Float. The multiplier's largest value. Defaults to 100.
        from_logits: Boolean. Whether predictions are logits. Defaults to
            `False`.
        class_id: Integer. For a task of several classes, the positive one.
        groups: Integer. The number of groups. Defaults to 2.
        name: String. Name in the logs, after the task. Defaults to `"parity"`.

    Raises:
        ValueError: If an option is out of range; at `compile`, if the task has
            no score for each example; in `fit`, if a group has no members.

    Example:

    >>> inputs = keras.Input((3,))
    >>> model = keras_mtl.MultiTaskModel(inputs, {"hired": keras.layers.Dense(1, activation="sigmoid")(inputs)})
    >>> model.compile(
    ...     "adam",
    ...     loss={"hired": "binary_crossentropy"},
    ...     penalties={"hired": keras_mtl.fairness.ParityPenalty("sex", strength=2.0)},
    ... )
    >>> y = {"hired": np.array([0, 1, 1, 0]), "sex": np.array([0, 0, 1, 1])}
    >>> "hired_parity" in model.fit(np.eye(4, 3), y, verbose=0).history
    True
    """

    def __init__(self, column: str | None, strength: float = 1.0, *, name: str = "parity", **options: Any) -> None:
        super().__init__(column, strength, name=name, **options)

    def measure(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor]:
        scores, _, belongs = self.members(labels, column)
        counts = ops.sum(belongs, axis=0)
        means = ops.divide_no_nan(ops.sum(belongs * scores[:, None], axis=0), counts)
        present = counts > 0
        known = ops.sum(ops.cast(present, "float32")) > 1
        highest = ops.max(ops.where(present, means, ops.full_like(means, -np.inf)))
        lowest = ops.min(ops.where(present, means, ops.full_like(means, np.inf)))
        return ops.where(known, highest - lowest, ops.zeros_like(highest)), ops.cast(known, "float32")
