"""Discriminative learning rates: lower towards the inputs."""

from __future__ import annotations

import re
from typing import Any, Self

import keras

from keras_mtl._types import Tensor
from keras_mtl.models._layer_order import levels_of


def discriminative_rates(
    model: keras.Model, optimizer: str | keras.optimizers.Optimizer, factor: float = 1 / 2.6
) -> keras.optimizers.MultiOptimizer:
    """Makes an optimizer whose learning rate falls from level to level.

    The heads have the optimizer's own rate, the last stage before them `factor` times as much, the
    one before that `factor^2`, and so on: what was pretrained near the inputs is general, and
    changes least.

    Args:
        model: Functional `keras.Model`, such as a `keras_mtl.MultiTaskModel`.
            Its levels are its stages; see `keras_mtl.stages_of` for those of a
            pretrained backbone.
        optimizer: `keras.optimizers.Optimizer` or string. Its learning rate, a
            number or a schedule, is that of the heads.
        factor: Float above 0, at most 1. Defaults to 1 / 2.6.

    Returns:
        A `keras.optimizers.MultiOptimizer` with one optimizer for each level,
        by the paths of its variables. Variables of weightings and penalties
        have the heads' rate.

    Raises:
        ValueError: If `factor` is out of range, or variables on several levels
            have one path, so that they cannot be distinguished.

    Example:

    >>> model = keras_mtl.hard_sharing(
    ...     keras.Input((8,)),
    ...     [keras.layers.Dense(8, name="low"), keras.layers.Dense(8, name="high")],
    ...     {"a": keras.layers.Dense(1)},
    ... )
    >>> optimizer = keras_mtl.models.discriminative_rates(model, keras.optimizers.Adam(1e-3), factor=0.5)
    >>> [round(float(one.learning_rate), 6) for one in optimizer.optimizers]
    [0.00025, 0.0005, 0.001]

    Reference:

    - J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, arXiv:1801.06146.
    """
    if not 0 < factor <= 1:
        raise ValueError(f"`factor` should be above 0 and at most 1. Received: factor={factor!r}")
    optimizer = keras.optimizers.get(optimizer)
    levels = [[v.path for layer in level for v in layer.variables] for level in levels_of(model)]
    seen = {}
    for depth, paths in enumerate(levels):
        for path in paths:
            if seen.setdefault(path, depth) != depth:
                raise ValueError(
                    f"Variables on different levels of model '{model.name}' should have paths of their own, so that "
                    f"they can have rates of their own. Received: '{path}' on levels {seen[path] + 1} and {depth + 1}"
                )
    by_path = {}
    for depth, paths in enumerate(levels[:-1]):
        pattern = "|".join(re.escape(path) for path in dict.fromkeys(paths))
        by_path[pattern] = _scaled(optimizer, factor ** (len(levels) - 1 - depth))
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(_scaled(optimizer, 1.0), by_path))


def _scaled(optimizer: keras.optimizers.Optimizer, factor: float) -> keras.optimizers.Optimizer:
    """A fresh optimizer like the given one, with another rate."""
    config = optimizer.get_config()
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        schedule = keras.optimizers.schedules.deserialize(rate)
        config["learning_rate"] = keras.saving.serialize_keras_object(ScaledSchedule(schedule, factor))
    else:
        config["learning_rate"] = rate * factor
    return type(optimizer).from_config(config)


@keras.saving.register_keras_serializable(package="keras_mtl")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule times a factor.

    Args:
        schedule: `keras.optimizers.schedules.LearningRateSchedule`.
        factor: Float.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, factor: float) -> None:
        self.schedule = schedule
        self.factor = factor

    def __call__(self, step: Tensor) -> Tensor:
        return self.factor * self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["factor"])
