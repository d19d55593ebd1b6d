"""The base class of penalties on predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Shape, Tensor

if TYPE_CHECKING:
    from keras_mtl.losses.labels import Labels


class Penalty(keras.layers.Layer):
    """A number R that is made from a task's predictions and a column beside the labels.

    `compile(penalties={task: [...]})` adds `strength * R` to what is minimized. With `bound` it is a
    constraint, `R <= bound`: `multiplier * (R - bound)` is added, and after each step
    `multiplier <- clip(multiplier + multiplier_rate * (R - bound), 0, max_multiplier)`. The
    multiplier is state of the model: saved and restored with it.

    Penalties do not go through the weighting, and `loss` in the logs leaves them out; `<task>_<name>`
    is R. The column is an entry of `y` that is no task. It is read in training and evaluation,
    never by `predict`.

    Subclasses implement `measure(labels, column)`, and `check_task` or `check_column` where not every task or
    column will do.

    Args:
        column: String. Key of the column in `y`.
        strength: Float. Weight of the penalty; with `bound`, where the multiplier starts.
        bound: Float or `None`. The largest value that R should have.
        multiplier_rate: Float. Step size of the multiplier.
        max_multiplier: Float. The multiplier's largest value.
        name: String. Name in the logs, after the task.
    """

    def __init__(
        self,
        column: str | None,
        strength: float,
        bound: float | None = None,
        multiplier_rate: float = 0.1,
        max_multiplier: float = 100.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        if not isinstance(column, str) or not column:
            raise ValueError(f"The column of penalty '{name}' should be a key of `y`. Received: {column!r}")
        if not strength >= 0:
            raise ValueError(f"`strength` should be at least 0. Received: strength={strength!r}")
        if bound is not None and not bound >= 0:
            raise ValueError(f"`bound` should be None or at least 0. Received: bound={bound!r}")
        if not multiplier_rate > 0 or not max_multiplier > 0:
            raise ValueError(
                "`multiplier_rate` and `max_multiplier` should be positive. "
                f"Received: multiplier_rate={multiplier_rate!r}, max_multiplier={max_multiplier!r}"
            )
        self.column = column
        self.strength = float(strength)
        self.bound = None if bound is None else float(bound)
        self.multiplier_rate = float(multiplier_rate)
        self.max_multiplier = float(max_multiplier)

    def build(self, input_shape: Shape | None = None) -> None:
        del input_shape
        if self.bound is not None:
            start = keras.initializers.Constant(min(self.strength, self.max_multiplier))
            self.multiplier = self.add_weight(name="multiplier", shape=(), initializer=start, trainable=False)
        self.built = True

    def check_task(self, task: str, loss: keras.losses.Loss, shape: Shape) -> None:
        """Raises where the penalty does not suit a task. `compile` calls it.

        Args:
            task: String.
            loss: The task's `keras.losses.Loss`.
            shape: Shape of the task's output.
        """
        del task, loss, shape

    def check_column(self, task: str, values: np.ndarray) -> None:
        """Raises where a column that `fit` or `evaluate` was given does not suit the penalty.

        Args:
            task: String.
            values: Array. The whole column, as `y` has it.
        """
        del task, values

    def measure(self, labels: Labels, column: Tensor) -> tuple[Tensor, Tensor]:
        """Computes R on a batch.

        Args:
            labels: `Labels` of the task.
            column: Tensor. The column, as `y` has it.

        Returns:
            Tuple of two scalars: R, connected to the predictions, and 1 where
            the batch has what R needs, else 0; R is 0 then.
        """
        raise NotImplementedError

    def objective(self, value: Tensor) -> Tensor:
        """What is added to the loss, from R."""
        if self.bound is None:
            return self.strength * value
        return self.multiplier.value * (value - self.bound)

    def update(self, value: Tensor, known: Tensor) -> None:
        """Moves the multiplier once a step was taken."""
        if self.bound is None:
            return
        new = ops.clip(self.multiplier + self.multiplier_rate * (value - self.bound), 0.0, self.max_multiplier)
        usable = ops.logical_and(known > 0, ops.isfinite(value))
        self.multiplier.assign(ops.where(usable, new, self.multiplier.value))

    def get_config(self) -> dict[str, Any]:
        return {
            "column": self.column,
            "strength": self.strength,
            "bound": self.bound,
            "multiplier_rate": self.multiplier_rate,
            "max_multiplier": self.max_multiplier,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)
