"""A gate that draws one of several options by a Gumbel-softmax."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.layers.gate import softmax

MOST_STEPS = 2**31 - 1  # that a counter of 32 bits can count, which some backends have


@keras.saving.register_keras_serializable(package="keras_mtl")
class GumbelGate(layers.Layer):
    r"""One of n options for the whole batch, drawn in training by a Gumbel-softmax.

    With logits `a` and independent Gumbel noise `G`, a training step takes

    ```math
    v = \mathrm{softmax}\!\left(\frac{a + G}{T}\right), \quad
    T = \max(T_{\min}, T_0 \, \gamma^t)
    ```

    with `temperature` as T_0, `decay` as γ and `min_temperature` as T_min, or,
    with `hard`, the one-hot vector of its largest entry with the gradient of
    `v`. Outside training it is the one-hot vector of the largest logit. For
    the first `warmup_steps` training steps there is no choice: all options
    have `warmup`'s weight, and the logits are not trained. In a `MultiTaskModel` a
    training step is a step of the optimizer, which may accumulate several batches.

    Args:
        num_options: Integer. n.
        temperature: Float. T at the end of the warm-up. Defaults to 5.
        decay: Float. What T is multiplied with at each step t after it.
            Defaults to 1.
        min_temperature: Float. Where T stops. Defaults to 0.1.
        hard: Boolean. Whether training steps take one-hot vectors. Defaults to
            `False`.
        warmup_steps: Integer. Steps without a choice. Defaults to 0.
        warmup: `"mean"`, all options by 1/n, or `"first"`, the first alone.
            Defaults to `"mean"`.
        seed: Integer or `None`. Seed of the noise. Defaults to `None`: drawn
            from the global seed.
        name: String. Name of the layer.

    Call arguments:
        inputs: Tensor of shape `(batch, ...)`, of which only the batch size
            counts.
        training: Boolean. Whether to draw, and to count the step.

    Returns:
        Tensor of shape `(batch, n)` that sums to 1 over the last axis.

    Example:

    >>> gate = keras_mtl.learned.GumbelGate(3)
    >>> keras.ops.convert_to_numpy(gate(np.ones((1, 2)))).tolist()
    [[1.0, 0.0, 0.0]]
    >>> gate.coefficients().round(3).tolist()
    [0.333, 0.333, 0.333]

    Reference:

    - E. Jang, S. Gu and B. Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017.
    """

    def __init__(
        self,
        num_options: int,
        temperature: float = 5.0,
        decay: float = 1.0,
        min_temperature: float = 0.1,
        hard: bool = False,
        warmup_steps: int = 0,
        warmup: Literal["mean", "first"] = "mean",
        seed: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.num_options = check_integer(num_options, "num_options", 1)
        self.temperature = check_number(temperature, "temperature", above=0)
        self.decay = check_number(decay, "decay", above=0, most=1)
        self.min_temperature = check_number(min_temperature, "min_temperature", above=0)
        self.warmup_steps = check_integer(warmup_steps, "warmup_steps", 0, MOST_STEPS)
        if warmup not in ("mean", "first"):
            raise ValueError(f"`warmup` should be 'mean' or 'first'. Received: warmup={warmup!r}")
        self.hard = check_boolean(hard, "hard")
        self.warmup = warmup
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        del input_shape
        self.logits = self.add_weight(shape=(self.num_options,), initializer="zeros", name="logits")
        # Not in half precision, where counting ends at 2048.
        # Not int32: TensorFlow keeps such variables on the host, from where XLA does not read them on a GPU.
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, dtype="int", name="steps")

    def state_of_steps(self) -> list[keras.Variable]:
        """The counter: micro-batches of one step of the optimizer count once."""
        return [self.steps]

    @property
    def chooses(self) -> Tensor:
        """1 once the warm-up is over, before that 0, as a scalar tensor."""
        return ops.cast(self.steps >= self.warmup_steps, "float32")

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        logits = ops.cast(self.logits, "float32")
        gate = self._drawn(logits) if training else ops.one_hot(ops.argmax(logits), self.num_options, dtype="float32")
        gate = ops.where(self.steps >= self.warmup_steps, gate, self._undecided())
        if training:
            self.steps.assign(self.steps + 1)
        return ops.broadcast_to(ops.cast(gate, self.compute_dtype), (ops.shape(inputs)[0], self.num_options))

    def _undecided(self) -> Tensor:
        if self.warmup == "first":
            return ops.one_hot(0, self.num_options, dtype="float32")
        return ops.full((self.num_options,), 1.0 / self.num_options, dtype="float32")

    def _drawn(self, logits: Tensor) -> Tensor:
        uniform = keras.random.uniform(
            (self.num_options,), minval=1e-20, maxval=1.0, dtype="float32", seed=self.seed_generator
        )
        gumbel = -ops.log(-ops.log(uniform))
        since = ops.cast(ops.maximum(self.steps - self.warmup_steps, 0), "float32")
        temperature = ops.maximum(self.temperature * ops.power(self.decay, since), self.min_temperature)
        soft = softmax((logits + gumbel) / temperature)
        if not self.hard:
            return soft
        one_hot = ops.one_hot(ops.argmax(soft), self.num_options, dtype="float32")
        return one_hot + soft - ops.stop_gradient(soft)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.num_options)

    def compute_output_spec(self, inputs: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        del training
        return keras.KerasTensor((inputs.shape[0], self.num_options), dtype=self.compute_dtype)

    def coefficients(self, output: np.ndarray | None = None) -> np.ndarray | None:
        """The probabilities `softmax(a)`, of shape `(n,)`."""
        del output
        return ops.convert_to_numpy(softmax(ops.cast(self.logits, "float32")))

    def by_source(self, coefficients: np.ndarray) -> np.ndarray:
        """One number for each option."""
        return coefficients

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_options": self.num_options,
            "temperature": self.temperature,
            "decay": self.decay,
            "min_temperature": self.min_temperature,
            "hard": self.hard,
            "warmup_steps": self.warmup_steps,
            "warmup": self.warmup,
            "seed": self.seed,
        }
