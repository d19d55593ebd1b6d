"""The distilled policy of Distral, and the layer of a task's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._types import Shape, Tensor

DISTILLED = "distilled"  # name of the stage that gives the logits of the policy in common


@keras.saving.register_keras_serializable(package="keras_mtl")
class DistilledPolicy(layers.Layer):
    """The policy of a task that adds to a distilled one.

    `pi_i(a|s)` is proportional to `pi_0(a|s)^alpha exp(f_i(a|s))`: its logits
    are `alpha h_0 + f_i`, where `h_0` are the distilled policy's logits. With
    `alpha=0` the policy is the task's alone.

    Args:
        alpha: Float from 0 to 1.
        name: String. Name of the layer.

    Call arguments:
        inputs: List of two float tensors: `h_0`, of shape `(batch, n)`, and a
            task's outputs, of shape `(batch, n + 1)`: `f_i`, then the value.

    Returns:
        Tensor of shape `(batch, 2n + 1)`: the logits of `pi_i`, the value, the
        logits of `pi_0`.

    Raises:
        ValueError: If `alpha` is out of range, or the shapes do not fit.

    Example:

    >>> layer = keras_mtl.rl.DistilledPolicy(alpha=0.5)
    >>> layer([np.array([[2.0, 0.0]]), np.array([[1.0, 1.0, 7.0]])]).numpy().tolist()
    [[2.0, 1.0, 7.0, 2.0, 0.0]]

    References:

    - Y. W. Teh et al., "Distral: Robust Multitask Reinforcement Learning", NeurIPS 2017.
    """

    def __init__(self, alpha: float, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 <= alpha <= 1:
            raise ValueError(f"`alpha` should be from 0 to 1. Received: alpha={alpha!r}")
        self.alpha = alpha

    def build(self, input_shape: Sequence[Shape]) -> None:
        distilled, own = input_shape
        if len(distilled) != 2 or len(own) != 2 or own[-1] != distilled[-1] + 1:
            raise ValueError(
                f"A task should have one output more than there are actions, for the value. Received: {distilled[-1]} "
                f"actions of the distilled policy; outputs of shape {tuple(own)}"
            )

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        distilled, own = inputs
        return ops.concatenate([self.alpha * distilled + own[:, :-1], own[:, -1:], distilled], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[Shape]) -> Shape:
        distilled, own = input_shape
        return (own[0], 2 * distilled[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


def distilled_policy(model: keras.Model) -> keras.Model:
    """The policy that the tasks of a Distral model have in common.

    It shares layers and weights with the model, and may start a new task.

    Args:
        model: A model of `keras_mtl.rl.distral`.

    Returns:
        A functional `keras.Model` from observations to logits of shape
        `(batch, n)`.

    Raises:
        ValueError: If the model has no distilled policy.
    """
    for layer in model.layers:
        if layer.name == f"shared_{DISTILLED}":
            return keras.Model(model.input, layer.output, name=f"{model.name}_{DISTILLED}")
    raise ValueError(
        f"`model` should be one of `keras_mtl.rl.distral`. Received: model '{model.name}' without a distilled policy"
    )
