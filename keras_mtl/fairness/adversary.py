"""An adversary that predicts the group from the prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import keras
from keras import ops

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import Shape, Tensor
from keras_mtl.fairness._group_penalty import GroupPenalty
from keras_mtl.fairness._scores import check_scores
from keras_mtl.layers.gradient_reversal import reverse_gradient

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


@keras.saving.register_keras_serializable(package="keras_mtl")
class Adversary(GroupPenalty):
    """Adversarial debiasing: a small network guesses the group from a task's prediction.

    The adversary minimizes its cross-entropy `L_A`; the predictor minimizes `L - strength * L_A`,
    through a layer that reverses the gradient, in the same step. The adversary sees the logit of the
    prediction; with `sees_label`, the label too, so that only what the prediction tells beyond the
    label counts: the first is for demographic parity, the second for equalized odds.

    R, in the logs, is `L_A` in nats: the entropy of the groups where it can tell nothing. Its
    variables belong to the model (`adversary/...`), and the model's optimizer trains them.

    Args:
        column: String. Key of the groups in `y`: 0 to `groups - 1`, or less
            than 0 or NaN where the group is unknown.
        strength: Float. How much of the adversary's gradient is reversed.
            Defaults to 1.
        sees_label: Boolean. Whether the adversary is given the label. Defaults
            to `False`.
        units: Integer. Hidden units of the adversary. Defaults to 32.
        among: `None`, `"positives"` or `"negatives"`. The examples to look at.
        from_logits: Boolean. Whether predictions are logits. Defaults to
            `False`.
        class_id: Integer. For a task of several classes, the positive one.
        groups: Integer. The number of groups. Defaults to 2.
        name: String. Name in the logs, after the task, and of the variables.
            Defaults to `"adversary"`.

    Raises:
        ValueError: As `ParityPenalty`, and if `units` is not positive.

    Example:

    >>> penalty = keras_mtl.fairness.Adversary("sex", strength=0.5, sees_label=True)

    Reference:

    - B. H. Zhang, B. Lemoine, M. Mitchell, "Mitigating Unwanted Biases with Adversarial Learning", AIES 2018,
      arXiv:1801.07593.

    Deviations: the predictor's gradient does not lose its projection on the adversary's, only the adversary's gradient
    is subtracted; the adversary is a network with a hidden layer that gets the logit, the label and their product, in
    place of a logistic regression; the strength is constant.
    """

    def __init__(
        self,
        column: str,
        strength: float = 1.0,
        *,
        sees_label: bool = False,
        units: int = 32,
        among: Literal["positives", "negatives"] | None = None,
        from_logits: bool = False,
        class_id: int | None = None,
        groups: int = 2,
        name: str = "adversary",
    ) -> None:
        options: dict[str, Any] = {"among": among, "from_logits": from_logits, "class_id": class_id, "groups": groups}
        super().__init__(column, strength, name=name, **options)
        units = check_integer(units, "units", 1)
        self.sees_label = check_boolean(sees_label, "sees_label")
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="relu", dtype="float32", name="hidden")
        self.guess = keras.layers.Dense(groups, dtype="float32", name="guess")

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.hidden.build((None, 3 if self.sees_label else 1))
        self.guess.build((None, self.units))

    def check_task(self, task: str, loss: keras.losses.Loss, shape: Shape) -> None:
        what = f"Penalty '{self.name}'"
        by_label = self.sees_label or self.among is not None
        check_scores(what, task, loss, shape, self.from_logits, self.class_id, labels=by_label)

    def measure(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor]:
        scores, positive, belongs = self.members(labels, column)
        scores = ops.clip(scores, 1e-6, 1.0 - 1e-6)
        logits = reverse_gradient(ops.log(scores) - ops.log1p(-scores), self.strength)
        seen = [logits, positive, logits * positive] if self.sees_label else [logits]
        guesses = ops.log_softmax(self.guess(self.hidden(ops.stack(seen, axis=-1))))
        counts = ops.sum(belongs, axis=0)
        # Even where one group only is in the batch, the adversary learns from it.
        return -ops.divide_no_nan(ops.sum(belongs * guesses), ops.sum(counts)), ops.cast(ops.sum(counts) > 0, "float32")

    def objective(self, value: Tensor) -> Tensor:
        return value

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("bound", "multiplier_rate", "max_multiplier"):
            del config[name]
        return {**config, "sees_label": self.sees_label, "units": self.units}
