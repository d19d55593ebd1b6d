"""Task gradients changed by the other tasks one after the other (PCGrad, GradVac)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_mtl._types import Tensor

ORDERS = ("random", "fixed")


def task_orders(size: int, order: str, seed_generator: keras.random.SeedGenerator) -> Tensor:
    """Orders in which each task meets the others.

    Args:
        size: Integer, K.
        order: `"random"` for an independent permutation per row, `"fixed"` for the identity.
        seed_generator: `keras.random.SeedGenerator`, advanced by `"random"`.

    Returns:
        int32 tensor of shape `(K, K)`.
    """
    if order == "fixed":
        return ops.tile(ops.arange(size, dtype="int32")[None, :], (size, 1))
    draws = keras.random.uniform((size, size), dtype="float32", seed=seed_generator)
    return ops.cast(ops.argsort(draws, axis=1), "int32")


def meet_in_order(cosines: Tensor, orders: Tensor, push: Callable[..., Any]) -> tuple[Tensor, Tensor]:
    """Lets every task gradient meet the others in its order, all tasks side by side.

    Args:
        cosines: float64 tensor of shape `(K, K)`.
        orders: int32 tensor of shape `(K, K)`; row i is task i's order.
        push: Function `(cosine, length, pair) -> coefficient` on tensors of shape `(K,)`. Gets
            the cosine of each changed gradient with the unit gradient that it meets, its length,
            and the mask of that pair, of shape `(K, K)`; gives how much of the latter is added.

    Returns:
        Tuple `(coefficients, met)` of float64 tensors of shape `(K, K)`: row i holds the changed
        gradient i as a combination of the unit gradients, and its cosines when it met each task.
    """
    size = cosines.shape[0]
    eye = ops.eye(size, dtype="float64")

    def body(step: Tensor, combination: Tensor, products: Tensor, met: Tensor) -> tuple[Tensor, ...]:
        pair = ops.one_hot(ops.take(orders, step, axis=1), size, dtype="float64") * (1.0 - eye)
        length = ops.sqrt(ops.maximum(ops.sum(combination * products, axis=1), 1e-300))
        cosine = ops.clip(ops.sum(products * pair, axis=1) / length, -1.0, 1.0)
        change = push(cosine, length, pair)[:, None] * pair
        return (
            step + 1,
            combination + change,
            products + ops.matmul(change, cosines),
            met + cosine[:, None] * pair,
        )

    state = (ops.zeros((), dtype="int32"), eye, cosines, ops.zeros_like(cosines))
    _, combination, _, met = ops.while_loop(lambda step, *_: step < size, body, state)
    return combination, met
