"""SoftAdapt: weights by the rate of change of the losses."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._epoch_means import EpochMeans
from keras_mtl.weighting._present import divide, masked_softmax
from keras_mtl.weighting.registry import register

_STEEPEST = 1e6
_FORMS = ("plain", "normalized", "loss_weighted")


@register("softadapt")
class SoftAdapt(EpochMeans):
    """Gives more weight to the tasks whose loss fell least, or rose most, from epoch to epoch.

    With `L_k(t)` the mean loss of task `k` in epoch `t` and `s_k = L_k(t-1) - L_k(t-2)` its slope, the
    weights of epoch `t` are, by `form`,

    - `"plain"`: `softmax(beta * s)_k`;
    - `"normalized"`: the same with `s_k / sum_j |s_j|` for `s_k`, so that the scale of the losses does not count;
    - `"loss_weighted"`: `L_k(t-1) exp(beta * s_k)`, divided by its sum over tasks, so that a task
      whose loss is 0 gets no weight.

    They stay the same within an epoch, and are `1 / K` in the first two.

    Scale: the weights of all tasks sum to 1.

    Args:
        beta: Float. How much the slopes count: 0 makes the weights equal (in proportion to the losses with
            `"loss_weighted"`), values below 0 favour the tasks that fall fast. From -1e6 to 1e6. Defaults to `0.1`.
        form: String. `"plain"`, `"normalized"` or `"loss_weighted"`. Defaults to `"plain"`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `beta` is out of its range or `form` is unknown.

    Example:

    >>> weighting = keras_mtl.weighting.SoftAdapt(beta=2.0)
    >>> weighting.build((2,))
    >>> for losses in ([1.0, 1.0], [0.5, 1.0]):
    ...     weighting.update(np.array(losses), np.ones(2), np.ones(2))
    ...     weighting.end_epoch()
    >>> weighting([0.5, 1.0]).numpy().round(4).tolist()  # softmax(-1, 0)
    [0.2689, 0.7311]

    References:
        - Heydari, Thompson and Mehmood, "SoftAdapt: techniques for adaptive loss weighting
          of neural networks with multi-part loss functions", 2019, arXiv:1912.12355.

    Deviations: slopes are differences of epoch means, where the official code may fit more than two values,
    and takes the plain sum of the slopes for `"normalized"`, which may be 0 or negative. A task that has had
    fewer than two epochs has `s = 0` and the mean of the other losses; an epoch without the task does not count
    as one of its epochs. Losses below 0 are weighted as 0.
    """

    def __init__(self, beta: float = 0.1, form: str = "plain", name: str | None = None) -> None:
        super().__init__(name=name)
        if form not in _FORMS:
            raise ValueError(f"`form` should be one of {_FORMS}. Received: form={form!r}")
        self.beta = check_number(beta, "beta", least=-_STEEPEST, most=_STEEPEST)
        self.form = form

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        known = self.epochs >= 2
        slopes = ops.where(known, self.last - self.before_last, 0.0)
        if self.form == "normalized":
            slopes = divide(slopes, ops.max(ops.abs(slopes)))  # or the sum could overflow
            slopes = divide(slopes, ops.sum(ops.abs(slopes)))
        shares = masked_softmax(ops.clip(self.beta * slopes, -1e30, 1e30), ops.ones_like(slopes))
        if self.form == "loss_weighted":
            losses = ops.where(known, ops.maximum(self.last, 0.0), 0.0)
            mean = divide(ops.sum(losses), ops.sum(ops.cast(known, "float32")))
            losses = ops.where(known, losses, ops.where(ops.any(known), mean, 1.0))
            shares = shares * divide(losses, ops.max(losses))
            shares = divide(shares, ops.sum(shares))
        return shares * present

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "beta": self.beta, "form": self.form}
