"""GREAT: gradient adversarial training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers.gradient_reversal import reverse_gradient
from keras_mtl.weighting.feature_weighting import FeatureWeighting
from keras_mtl.weighting.registry import register


@register("great")
class GREAT(FeatureWeighting):
    r"""Gradient adversarial training: scales that hide which task a gradient comes from.

    Where the tasks part, with features h, each task has a gradient alignment layer: what goes
    forward is h, what comes back is `g_k * dL_k/dh`, elementwise. A small network, the adversary, guesses
    the task k from the scaled gradient of one example, by a softmax crossentropy `L_A`. It minimizes
    `L_A`, the scales `g` maximize it (their gradient of `L_A` is reversed, times `strength`), and the
    trunk gets

    ```math
    \sum_k g_k \odot \frac{\partial L_k}{\partial h}
    ```

    Heads get their own task's plain gradient.

    The adversary sees gradients divided by the root mean square over all tasks, examples and
    features, so that scaling all alike gains nothing. Examples without a gradient for a task, such
    as unlabelled ones, do not count for it.

    State: the scales and the adversary's weights, which the model's optimizer trains, and
    `probe_accuracy`, a running mean of how often the adversary is right. With `strength=0` the
    scales stay 1, and the adversary is a probe of how unlike the gradients are.

    The task weights in the logs are the mean scales. `gradients` of `compile` makes no difference:
    these are always the gradients of the features, with one backward pass of the trunk.

    Args:
        strength: Float. How much of the adversary's gradient is reversed into
            the scales, at least 0. Defaults to 1.
        units: Integer. Hidden units of the adversary. Defaults to 32.
        min_scale: Float. The scales are kept at this or more. Defaults to 0.05.
        max_scale: Float. The scales are kept at this or less. Defaults to 20.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an option is out of range.

    Example:

    >>> weighting = keras_mtl.weighting.GREAT(strength=0.5)
    >>> weighting.build((2, 3))  # two tasks, three features
    >>> scaled, objective = weighting.align(np.ones((2, 4, 3), "float32"), np.ones(2, "float32"))
    >>> scaled.shape
    TensorShape([2, 4, 3])

    Reference:

    - A. Sinha, Z. Chen, V. Badrinarayanan, A. Rabinovich, "Gradient Adversarial Training of Neural Networks", 2018,
      arXiv:1806.08028.

    Deviations: written from the paper's description, with no official code to compare with. The division by the root
    mean square, and the limits of the scales, are not in it.
    """

    def __init__(
        self,
        strength: float = 1.0,
        units: int = 32,
        min_scale: float = 0.05,
        max_scale: float = 20.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.strength = check_number(strength, "strength", least=0)
        self.units = check_integer(units, "units", 1)
        self.min_scale = check_number(min_scale, "min_scale", above=0, most=1)
        self.max_scale = check_number(max_scale, "max_scale", least=1)

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        tasks, features = input_shape
        self.scales = self.add_weight(
            name="scales",
            shape=(tasks, features),
            initializer="ones",
            constraint=_Between(self.min_scale, self.max_scale),
        )
        self.hidden = layers.Dense(self.units, activation="relu", dtype="float32", name="hidden")
        self.guess = layers.Dense(tasks, dtype="float32", name="guess")
        self.hidden.build((None, features))
        self.guess.build((None, self.units))
        self.probe_accuracy = self.add_state("probe_accuracy", (), 1.0 / tasks)

    def align(
        self, gradients: Tensor, present: Tensor, add_up: Callable[..., Any] = lambda tensors: tensors
    ) -> tuple[Tensor, Tensor]:
        scales = self.scales.value[:, None, :]
        scaled = gradients * ops.stop_gradient(scales)
        seen = gradients * reverse_gradient(scales, self.strength)
        counted = ops.cast(ops.any(ops.not_equal(gradients, 0), axis=-1), "float32") * present[:, None]
        count, squares = add_up([ops.sum(counted), ops.sum(ops.square(scaled) * counted[..., None])])
        total = ops.maximum(count, 1.0)
        size = ops.stop_gradient(ops.sqrt(squares / (total * gradients.shape[-1])))
        seen = seen / ops.where(size > 0, size, ops.ones_like(size))
        guesses = self.guess(self.hidden(seen))
        tasks = ops.broadcast_to(ops.arange(self.num_tasks, dtype="int32")[:, None], ops.shape(counted))
        values = -ops.take_along_axis(ops.log_softmax(guesses), tasks[..., None], axis=-1)[..., 0]
        right = ops.cast(
            ops.equal(ops.cast(ops.argmax(guesses, axis=-1), "int32"), ops.cast(tasks, "int32")), "float32"
        )
        (hits,) = add_up([ops.sum(ops.stop_gradient(right) * counted)])
        moved = 0.98 * self.probe_accuracy + 0.02 * hits / total
        usable = ops.logical_and(count > 0, ops.isfinite(size))
        self.probe_accuracy.assign(ops.where(usable, moved, self.probe_accuracy.value))
        return scaled, ops.sum(values * counted) / total

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        return ops.mean(self.scales.value, axis=-1) * present

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "strength": self.strength,
            "units": self.units,
            "min_scale": self.min_scale,
            "max_scale": self.max_scale,
        }


class _Between(keras.constraints.Constraint):
    """Keeps the entries of a variable in a range."""

    def __init__(self, min_scale: float, max_scale: float) -> None:
        self.min_scale, self.max_scale = min_scale, max_scale

    def __call__(self, w: Tensor) -> Tensor:
        return ops.clip(w, self.min_scale, self.max_scale)
