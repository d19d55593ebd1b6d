"""The loss of a task under Distral."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.rl.actor_critic_loss import ActorCriticLoss, log_softmax
from keras_mtl.rl.tabular import check_regularization


@keras.saving.register_keras_serializable(package="keras_mtl")
class DistralLoss(ActorCriticLoss):
    """The loss of a task of a `keras_mtl.rl.distral` model.

    Rewards become `r + alpha/beta log pi_0(a|s) - 1/beta log pi_i(a|s)`, and
    `-alpha/beta sum_a pi_i(a|s) log pi_0(a|s)` joins the actor-critic loss:
    the distilled policy learns what the task's policy does, which counts as
    fixed there.

    A task has 2n + 1 outputs for n actions: the logits of `pi_i`, its value,
    the logits of `pi_0`.

    Args:
        alpha: Float from 0 to 1. `c_KL / (c_KL + c_Ent)`, the same as the
            model's. Defaults to `0.5`.
        beta: Float above 0. `1 / (c_KL + c_Ent)`, in units of one over reward.
            Defaults to `20`.
        value_weight: Float. Defaults to `0.5`.
        clip: Float. As for `ActorCriticLoss`. Defaults to `None`.
        reduction: As in Keras. Defaults to `"sum_over_batch_size"`.
        name: String. Name of the loss.

    Call arguments:
        y_true: Float tensor of shape `(batch, 4)`, as for `ActorCriticLoss`.
        y_pred: Float tensor of shape `(batch, 2n + 1)`.

    Returns:
        A number for each row.

    Raises:
        ValueError: If `alpha`, `beta` or `clip` is out of range.

    References:

    - Y. W. Teh et al., "Distral: Robust Multitask Reinforcement Learning", NeurIPS 2017.

    Deviations: the steps of the distillation term all weigh the same, not
    `discount^t`, as is usual in actor-critics for the other terms too.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 20.0,
        value_weight: float = 0.5,
        clip: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "distral",
        **kwargs: Any,
    ) -> None:
        # The entropy is in the rewards.
        super().__init__(value_weight, entropy_weight=0.0, clip=clip, reduction=reduction, name=name, **kwargs)
        check_regularization(alpha, beta)
        self.alpha, self.beta = alpha, beta

    def outputs(self, actions: int) -> int:
        return 2 * actions + 1

    def actions(self, outputs: int) -> int:
        return (outputs - 1) // 2 if outputs % 2 else 0

    def bonus(self, output: np.ndarray, action: np.ndarray) -> np.ndarray:
        actions = self.actions(output.shape[-1])
        row = np.arange(len(action))
        log_policy = log_softmax(output[:, :actions])[row, action]
        log_distilled = log_softmax(output[:, actions + 1 :])[row, action]
        return (self.alpha * log_distilled - log_policy) / self.beta

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        actions = self.actions(y_pred.shape[-1])
        log_policy = ops.log_softmax(y_pred[:, :actions])
        log_distilled = ops.log_softmax(y_pred[:, actions + 1 :])
        distilled = ops.sum(ops.stop_gradient(ops.exp(log_policy)) * log_distilled, axis=-1)
        return self.actor_critic(y_true, log_policy, y_pred[:, actions]) - self.alpha / self.beta * distilled

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["entropy_weight"]
        return {**config, "alpha": self.alpha, "beta": self.beta}
