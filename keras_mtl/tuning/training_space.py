"""The search space of training: rates, schedules and regularization."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from keras_mtl._types import Structure

if TYPE_CHECKING:
    import keras_tuner

SCHEDULES = ("constant", "cosine", "exponential")


@dataclasses.dataclass(frozen=True)
class TrainingChoice:
    """One point of `training_space`.

    Args:
        optimizer: String. Name of a Keras optimizer.
        learning_rate: Float.
        schedule: `"constant"`, `"cosine"` or `"exponential"`.
        steps: Integer. Length of the schedule.
        parts: Dict from a pattern of variable paths to the factor by which the
            learning rate of the part differs.
        l1: Float. Strength of L1 regularization of the stages' kernels.
        l2: Float. Same, L2.
        dropout: Float. Rate of dropout after each stage.
        sampler_temperature: Float, or `None` where it is not searched.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    steps: int | None = None
    parts: dict = dataclasses.field(default_factory=dict)
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    sampler_temperature: float | None = None

    def make_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer: one, or a `MultiOptimizer` where parts have rates of their own.

        Returns:
            A `keras.optimizers.Optimizer`.
        """
        whole = self._one(1.0)
        if not self.parts:
            return whole
        parts = {pattern: self._one(factor) for pattern, factor in self.parts.items()}
        return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(whole, parts))

    def _one(self, factor: float) -> keras.optimizers.Optimizer:
        rate = self.learning_rate * factor
        schedules = keras.optimizers.schedules
        if self.schedule == "cosine":
            rate = schedules.CosineDecay(rate, self.steps)
        elif self.schedule == "exponential":
            rate = schedules.ExponentialDecay(rate, self.steps, decay_rate=0.01)
        return keras.optimizers.get({"class_name": self.optimizer, "config": {"learning_rate": rate}})

    def regularize(self, config: dict[str, Any]) -> dict[str, Any]:
        """Config of a layer, with the regularization in it.

        Kernels that have a regularizer keep it.

        Args:
            config: What `get_config` of a Keras layer returns.

        Returns:
            Dict.
        """
        if not (self.l1 or self.l2):
            return config
        regularizer = keras.regularizers.serialize(keras.regularizers.L1L2(l1=self.l1, l2=self.l2))

        def visit(item: Structure) -> Structure:
            if isinstance(item, dict):
                visited = {key: visit(value) for key, value in item.items()}
                if "kernel_regularizer" in item and item["kernel_regularizer"] is None:
                    visited["kernel_regularizer"] = regularizer
                return visited
            return [visit(entry) for entry in item] if isinstance(item, list) else item

        return visit(config)


def training_space(
    hp: keras_tuner.HyperParameters,
    *,
    optimizer: str = "adam",
    learning_rate: float | tuple[float, float] = (1e-4, 1e-2),
    schedules: str | Sequence[str] = ("constant",),
    steps: int | None = None,
    parts: Mapping[str, tuple[str, float, float]] | None = None,
    l1: tuple[float, float] | None = None,
    l2: tuple[float, float] | None = None,
    dropout: tuple[float, float] | None = None,
    sampler_temperature: tuple[float, float] | None = None,
) -> TrainingChoice:
    """Search space of the optimizer, its schedule and regularization.

    Ranges are tuples `(low, high)`; `None` leaves something out. Names are
    `"learning_rate"`, `"schedule"`, `"learning_rate/<part>"`, `"l1"`, `"l2"`,
    `"dropout"` and `"sampler_temperature"`.

    Args:
        hp: `keras_tuner.HyperParameters`.
        optimizer: String. Name of a Keras optimizer. Defaults to `"adam"`.
        learning_rate: Range, searched on a log scale; or a number, not
            searched. Defaults to `(1e-4, 1e-2)`.
        schedules: Collection of `"constant"`, `"cosine"` (to 0 after `steps`)
            and `"exponential"` (to a hundredth after `steps`). Defaults to
            `("constant",)`.
        steps: Integer. Steps of a whole trial, for schedules. Defaults to
            `None`.
        parts: Dict from a part's name to a tuple of a pattern of variable
            paths and a range: the factor by which its learning rate differs,
            on a log scale. `{"units": (".*/units/.*", 1.0, 1000.0)}` is for
            cross-stitch units. Defaults to `None`.
        l1: Range of the strength of L1 regularization of the stages' kernels,
            on a log scale. Defaults to `None`.
        l2: Same, L2. Defaults to `None`.
        dropout: Range of the rate of dropout after each stage. Defaults to
            `None`.
        sampler_temperature: Range of the temperature with which a sampler of
            tasks evens out their sizes; the data that use it are made by
            `SharingHyperModel(data=...)`. Defaults to `None`.

    Returns:
        A `keras_mtl.tuning.TrainingChoice`.

    Raises:
        ValueError: If a range is not in order or out of bounds, a schedule is
            unknown, or `steps` is missing for it.

    Example:

    >>> import keras_tuner
    >>> hp = keras_tuner.HyperParameters()
    >>> choice = keras_mtl.tuning.training_space(hp, schedules=["constant", "cosine"], steps=100, l2=(1e-6, 1e-3))
    >>> choice.learning_rate, choice.schedule, choice.l2
    (0.001, 'constant', 1e-06)
    >>> [p.name for p in hp.space]
    ['learning_rate', 'schedule', 'l2']
    """
    rate = learning_rate
    if not isinstance(rate, numbers.Real):
        low, high = _range(learning_rate, "learning_rate", above=0.0)
        default = min(max(1e-3, low), high)
        rate = hp.Float("learning_rate", low, high, sampling="log", default=default)
    return TrainingChoice(
        optimizer=optimizer,
        learning_rate=float(rate),
        schedule=_schedule(hp, schedules, steps),
        steps=steps,
        parts=_parts(hp, parts or {}),
        l1=_searched(hp, "l1", l1, above=0.0, sampling="log"),
        l2=_searched(hp, "l2", l2, above=0.0, sampling="log"),
        dropout=_searched(hp, "dropout", dropout, below=1.0),
        sampler_temperature=_searched(hp, "sampler_temperature", sampler_temperature, above=0.0, missing=None),
    )


def _range(given: Structure, argument: str, above: float = -1e-30, below: float = float("inf")) -> tuple[float, float]:
    is_pair = isinstance(given, (list, tuple)) and all(isinstance(n, numbers.Real) for n in given)
    if not is_pair or len(given) != 2 or not above < given[0] <= given[1] < below:
        bounds = f"{'more than' if above == 0 else 'at least'} 0" + (f" and below {below:g}" if below < 1e30 else "")
        raise ValueError(
            f"`{argument}` should be a pair of numbers, low and high, {bounds}. Received: {argument}={given!r}"
        )
    return float(given[0]), float(given[1])


def _searched(
    hp: keras_tuner.HyperParameters,
    name: str,
    given: Structure,
    missing: float | None = 0.0,
    sampling: str = "linear",
    **bounds: float,
) -> Structure:
    if given is None:
        return missing
    return hp.Float(name, *_range(given, name, **bounds), sampling=sampling)


def _schedule(hp: keras_tuner.HyperParameters, schedules: str | Sequence[str], steps: int | None) -> str:
    schedules = [schedules] if isinstance(schedules, str) else list(schedules)
    if not schedules or any(name not in SCHEDULES for name in schedules):
        raise ValueError(f"`schedules` should be some of {SCHEDULES}. Received: schedules={schedules!r}")
    if schedules != ["constant"] and (type(steps) is not int or steps < 1):
        raise ValueError(
            f"`steps` should be the steps of a whole trial, an integer of at least 1, for the schedules {schedules}. "
            f"Received: steps={steps!r}"
        )
    return hp.Choice("schedule", schedules) if len(schedules) > 1 else schedules[0]


def _parts(hp: keras_tuner.HyperParameters, parts: Mapping[str, tuple[str, float, float]]) -> dict[str, float]:
    factors = {}
    for name, given in parts.items():
        if not isinstance(given, (list, tuple)) or len(given) != 3 or not isinstance(given[0], str):
            raise ValueError(f"`parts['{name}']` should be a tuple (pattern, low, high). Received: {given!r}")
        low, high = _range(given[1:], f"parts['{name}']", above=0.0)
        factors[given[0]] = hp.Float(f"learning_rate/{name}", low, high, sampling="log")
    return factors
