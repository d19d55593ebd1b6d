"""Samplers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_mtl.data.samplers.a5c import A5C
from keras_mtl.data.samplers.by_size import Annealed, Proportional, Temperature
from keras_mtl.data.samplers.dynamic_task_prioritization import DynamicTaskPrioritization
from keras_mtl.data.samplers.ea4c import EA4C
from keras_mtl.data.samplers.loss_ratio import LossRatio
from keras_mtl.data.samplers.static import Fixed, RoundRobin, Uniform
from keras_mtl.data.samplers.ua4c import UA4C

if TYPE_CHECKING:
    from keras_mtl.data.samplers.base import Sampler

BY_NAME = {
    "uniform": Uniform,
    "proportional": Proportional,
    "temperature": Temperature,
    "round_robin": RoundRobin,
    "dynamic_task_prioritization": DynamicTaskPrioritization,
    "loss_ratio": LossRatio,
}
WITH_ARGUMENTS = {"annealed": Annealed, "fixed": Fixed, "a5c": A5C, "ua4c": UA4C, "ea4c": EA4C}


def get_sampler(identifier: str | Mapping[str, float] | Sampler) -> Sampler:
    """A sampler from its name, a dict of probabilities, or itself.

    Args:
        identifier: String, dict from task to probability, or an object with
            `probabilities(step, stats)`.

    Returns:
        The sampler.
    """
    if isinstance(identifier, str):
        if identifier in WITH_ARGUMENTS:
            name = WITH_ARGUMENTS[identifier].__name__
            raise ValueError(
                f"`sampler` should be an object here, `keras_mtl.data.{name}(...)`, since it needs arguments. "
                f"Received: sampler={identifier!r}"
            )
        if identifier not in BY_NAME:
            raise ValueError(f"`sampler` should be one of {list(BY_NAME)} or an object. Received: {identifier!r}")
        return BY_NAME[identifier]()
    if isinstance(identifier, dict):
        return Fixed(identifier)
    if isinstance(identifier, type) or not callable(getattr(identifier, "probabilities", None)):
        raise ValueError(
            "`sampler` should be a name, a dict from task to probability, or an object with a method "
            f"`probabilities(step, stats)`. Received: sampler={identifier!r}"
        )
    return identifier  # type: ignore[return-value]
