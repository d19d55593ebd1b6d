"""The actor-critic loss, on labels of action, return and advantage."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_mtl._types import Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class ActorCriticLoss(keras.losses.Loss):
    """The loss of an actor-critic head on what `keras_mtl.rl.train` collects.

    For an action a with advantage A and return G it is
    `-A log pi(a|s) + value_weight (V(s) - G)^2 - entropy_weight H(pi(.|s))`.
    With `clip`, the first term is `-min(rho A, clip(rho, 1 - c, 1 + c) A)`
    where `rho = pi(a|s) / pi_before(a|s)`, so that a rollout can serve for
    several passes.

    A head has n + 1 outputs for n actions: the logits, then the value.

    Args:
        value_weight: Float. Defaults to `0.5`.
        entropy_weight: Float. Defaults to `0.01`.
        clip: Float. c. Defaults to `None`: no clipping.
        reduction: As in Keras. Defaults to `"sum_over_batch_size"`.
        name: String. Name of the loss.

    Call arguments:
        y_true: Float tensor of shape `(batch, 4)`: the action, its advantage,
            its return, its log probability when it was taken.
        y_pred: Float tensor of shape `(batch, n + 1)`.

    Returns:
        A number for each row.

    Raises:
        ValueError: If `clip` is not above 0.

    Example:

    >>> loss = keras_mtl.rl.ActorCriticLoss(entropy_weight=0.0)
    >>> y_true = np.array([[1.0, 2.0, 3.0, -0.7]])
    >>> y_pred = np.array([[0.0, 0.0, 1.0]])  # both actions are as likely; the value is 1
    >>> round(float(loss(y_true, y_pred)), 3)  # 2 log(2) + 0.5 (1 - 3)^2
    3.386

    References:

    - V. Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", ICML 2016.
    - J. Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
    """

    def __init__(
        self,
        value_weight: float = 0.5,
        entropy_weight: float = 0.01,
        clip: float | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str = "actor_critic",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        if clip is not None and not clip > 0:
            raise ValueError(f"`clip` should be above 0, or None. Received: clip={clip!r}")
        self.value_weight = value_weight
        self.entropy_weight = entropy_weight
        self.clip = clip

    def outputs(self, actions: int) -> int:
        """How many outputs a head needs for this many actions."""
        return actions + 1

    def actions(self, outputs: int) -> int:
        """How many actions a head with this many outputs is for; 0 where it fits none."""
        return outputs - 1

    def read(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities and values from what a head returned.

        Args:
            output: Array of shape `(batch, outputs)`.

        Returns:
            Arrays of shapes `(batch, n)` and `(batch,)`.
        """
        actions = self.actions(output.shape[-1])
        return log_softmax(output[:, :actions]), output[:, actions]

    def bonus(self, output: np.ndarray, action: np.ndarray) -> np.ndarray:
        """What joins the reward of an action, of shape `(batch,)`: nothing here."""
        del output
        return np.zeros(len(action), "float32")

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        actions = self.actions(y_pred.shape[-1])
        return self.actor_critic(y_true, ops.log_softmax(y_pred[:, :actions]), y_pred[:, actions])

    def actor_critic(self, y_true: Tensor, log_policy: Tensor, value: Tensor) -> Tensor:
        """The loss from log probabilities of shape `(batch, n)` and values of shape `(batch,)`."""
        action, advantage, target, log_before = (y_true[:, i] for i in range(4))
        taken = ops.one_hot(ops.cast(action, "int32"), log_policy.shape[-1], dtype=log_policy.dtype)
        log_prob = ops.sum(taken * log_policy, axis=-1)
        if self.clip is None:
            gain = advantage * log_prob
        else:
            ratio = ops.exp(log_prob - log_before)
            gain = ops.minimum(ratio * advantage, ops.clip(ratio, 1 - self.clip, 1 + self.clip) * advantage)
        entropy = -ops.sum(ops.exp(log_policy) * log_policy, axis=-1)
        return self.value_weight * ops.square(value - target) - gain - self.entropy_weight * entropy

    def get_config(self) -> dict[str, Any]:
        config = {"value_weight": self.value_weight, "entropy_weight": self.entropy_weight, "clip": self.clip}
        return {**super().get_config(), **config}


def log_softmax(logits: npt.ArrayLike) -> np.ndarray:
    """Log probabilities from logits, over the last axis of an array."""
    shifted = np.asarray(logits, "float32") - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
