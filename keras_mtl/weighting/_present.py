"""Losses, shares and softmax restricted to the tasks that are present."""

from __future__ import annotations

from keras import ops

from keras_mtl._types import Tensor


def floored(losses: Tensor, present: Tensor, floor: float) -> Tensor:
    """Losses that a logarithm can take.

    Args:
        losses: Float tensor of shape `(K,)`.
        present: Float tensor of shape `(K,)`.
        floor: Float. Losses below it are read as `floor`.

    Returns:
        Float tensor of shape `(K,)`: at least `floor`; 1, whose logarithm is
        0, for absent tasks.
    """
    return ops.where(present > 0, ops.maximum(losses, floor), 1.0)


def equal_shares(present: Tensor) -> Tensor:
    """Equal shares of the present tasks: `1 / K` each, 0 for absent tasks."""
    return present / ops.maximum(ops.sum(present), 1.0)


def masked_softmax(logits: Tensor, present: Tensor, temperature: float = 1.0) -> Tensor:
    """`softmax(logits / temperature)` over the present tasks.

    Args:
        logits: Float tensor of shape `(K,)`.
        present: Float tensor of shape `(K,)`.
        temperature: Float, positive. Defaults to `1.0`.

    Returns:
        Float tensor of shape `(K,)` that sums to 1; 0 for absent tasks, and
        all 0 where no task is present.
    """
    top = ops.max(ops.where(present > 0, logits, -3e38))
    # `where` before `exp`, or an absent task's logit could overflow; divided last, or a low temperature could.
    # Numbers below the smallest normal one would be read as 0.
    temperature = max(temperature, 1.2e-38)
    powers = ops.exp(ops.where(present > 0, logits - top, 0.0) / temperature) * present
    return powers / ops.maximum(ops.sum(powers), 1e-30)


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """`numerator / denominator`, 0 where the denominator is not positive."""
    safe = denominator > 0
    return ops.where(safe, numerator / ops.where(safe, denominator, 1.0), 0.0)
