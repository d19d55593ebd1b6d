"""Estimates of how long a search takes, before it starts."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np

from keras_mtl import weighting as weightings
from keras_mtl._types import Structure

if TYPE_CHECKING:
    from keras_mtl.tuning.sharing_hyper_model import SharingHyperModel


@dataclasses.dataclass(frozen=True)
class SearchEstimate:
    """What `keras_mtl.tuning.estimate` measured.

    Args:
        new_structures: Tuple with a boolean for each trial that is left:
            whether it has to be traced, or an earlier one has its structure.
        epochs: Float. Epochs of all trials together.
        build_seconds: Float. To build a model.
        trace_seconds: Float. To trace it.
        epoch_seconds: Float. An epoch with its validation.
    """

    new_structures: tuple
    epochs: float
    build_seconds: float
    trace_seconds: float
    epoch_seconds: float

    @property
    def trials(self) -> int:
        """How many trials are left."""
        return len(self.new_structures)

    @property
    def structures(self) -> int:
        """How many of them have to be traced."""
        return sum(self.new_structures)

    @property
    def seconds(self) -> float:
        """The whole search, on one worker."""
        built = self.trials * self.build_seconds + self.structures * self.trace_seconds
        return built + self.epochs * self.epoch_seconds

    def first(self, trials: int) -> SearchEstimate:
        """The estimate of the first trials alone."""
        trials = min(trials, self.trials)
        epochs = self.epochs * trials / max(1, self.trials)
        return dataclasses.replace(self, new_structures=self.new_structures[:trials], epochs=epochs)

    def within(self, seconds: float) -> SearchEstimate:
        """The estimate of as many trials as fit the time, at least one."""
        fitting = [n for n in range(1, self.trials + 1) if self.first(n).seconds <= seconds]
        return self.first(max(fitting, default=1))

    def __str__(self) -> str:
        return (
            f"{self.trials} trials, {self.epochs:.0f} epochs: about {_words(self.seconds)} "
            f"({self.build_seconds:.1f} s to build a model, {self.trace_seconds:.1f} s to trace each of "
            f"{self.structures} structures, {self.epoch_seconds:.2f} s an epoch)"
        )


def estimate(tuner: keras_tuner.Tuner, *args: Any, samples: int = 3, **kwargs: Any) -> SearchEstimate:
    """Estimates how long a search will take, by training a few models a little.

    Call it with what `search` will be given, before `search`. It builds models
    at random points of the space and trains each for some batches; the tuner
    is left as it was. The first one is not counted, since it also starts
    TensorFlow. Early stopping makes a search shorter than said; callbacks
    make it longer.

    Args:
        tuner: A `keras_tuner` tuner: `RandomSearch`, `Hyperband`,
            `BayesianOptimization`, or `GridSearch` with `max_trials`.
        *args: Arguments of `search`.
        samples: Integer. How many models are measured. Defaults to `3`.
        **kwargs: Further arguments of `search`.

    Returns:
        A `SearchEstimate`, which `print` shows as a sentence.

    Raises:
        ValueError: If the number of trials cannot be known.
    """
    trials, drawn, epochs = _work(tuner.oracle, kwargs.get("epochs", 1))
    left = max(0, trials - len(set(tuner.oracle.end_order)))
    executions = getattr(tuner, "executions_per_trial", 1)
    space, hypermodel = tuner.oracle.get_space(), tuner.hypermodel
    points = [draw_trial(space, seed) for seed in range(max(samples, drawn))]
    measured = [_measure(hypermodel, hp, args, kwargs) for hp in points[:samples]]
    build, trace, epoch = np.mean(measured[1:] or measured, axis=0)
    new = _new_structures(hypermodel, points[:drawn])
    # What is left of a search that was stopped is its end.
    new = tuple(new + [False] * (trials - drawn))[trials - left :]
    total = epochs * executions * left / trials
    return SearchEstimate(new, total, float(build) * executions, float(trace), float(epoch))  # type: ignore[arg-type]


def draw_trial(space: keras_tuner.HyperParameters, seed: int) -> keras_tuner.HyperParameters:
    """A random point of a space.

    Args:
        space: `keras_tuner.HyperParameters`.
        seed: Integer.

    Returns:
        `keras_tuner.HyperParameters`.
    """
    hp = keras_tuner.HyperParameters()
    for index, parameter in enumerate(space.space):
        hp.merge([parameter])
        if hp.is_active(parameter):
            hp.values[parameter.name] = parameter.random_sample(1000 * seed + index)
    return hp


def _work(oracle: keras_tuner.Oracle, epochs: int) -> tuple[int, ...]:
    """Number of trials, of those that are drawn anew, and of all their epochs."""
    if isinstance(oracle, keras_tuner.oracles.HyperbandOracle):
        return tuple(int(oracle.hyperband_iterations) * n for n in _halving(oracle.max_epochs, oracle.factor))
    if not oracle.max_trials:
        raise ValueError("`tuner` should have `max_trials`, or its search may never end. Received: max_trials=None")
    return oracle.max_trials, oracle.max_trials, oracle.max_trials * epochs


def _halving(most: int, factor: int) -> tuple[int, int, int]:
    """One sweep of Hyperband as keras-tuner counts it: trials, those drawn anew, and epochs."""
    brackets = 0
    while most / factor**brackets >= 1:
        brackets += 1
    trials = drawn = epochs = 0
    for bracket in range(brackets):
        survivors = math.ceil(1 + math.log(most, factor)) / (bracket + 1)
        before = 0
        for turn in range(bracket + 1):
            size = math.ceil(survivors * factor ** (bracket - turn))
            until = math.ceil(most / factor ** (bracket - turn))
            trials += size
            drawn += size if turn == 0 else 0
            epochs += size * (until - before)
            before = until
    return trials, drawn, epochs


def _new_structures(hypermodel: SharingHyperModel, points: Sequence[Any]) -> list[bool]:
    """Whether each point has to be traced."""
    traced = getattr(hypermodel, "traced", None)
    if traced is None or not traced.limit:
        return [True] * len(points)
    structures = [_structure(hypermodel, hp) for hp in points]
    return [structure not in structures[:index] for index, structure in enumerate(structures)]


def _structure(hypermodel: SharingHyperModel, hp: keras_tuner.HyperParameters) -> str:
    """What tells traced models apart: all choices but plain learning rates and static weights."""
    sharing, weighting, training = hypermodel.choices_quietly(hp.copy())
    parts = [sharing.family, sharing.options, sharing.head_depth, sharing.head_width]
    if weighting is not None:
        parts += [weightings.serialize(weightings.get(weighting.get("weighting", "equal"))), weighting.get("gradients")]
    if training is not None:
        rate = None if training.schedule == "constant" else (training.learning_rate, training.parts)
        parts += [training.schedule, rate, training.l1, training.l2, training.dropout]
    return repr(parts)


def _measure(
    hypermodel: SharingHyperModel, hp: keras_tuner.HyperParameters, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Seconds to build a model, to trace it, and of an epoch."""
    given = {key: value for key, value in kwargs.items() if key not in ("epochs", "callbacks", "verbose")}
    validation = given.pop("validation_data", None)
    start = time.perf_counter()
    model = hypermodel.build(hp)
    build = time.perf_counter() - start
    if getattr(hypermodel, "data", None) is not None:
        args = (hypermodel.data(hypermodel.choices_quietly(hp)[2]), *args)  # type: ignore[misc]
    size_of_validation = given.get("validation_batch_size") or given.get("batch_size")
    steps, batch_size = _steps(args, given), _batch_size(args, given)
    if batch_size is not None:
        given["batch_size"] = batch_size

    def fit(steps: int | None, **more: Any) -> float:
        start = time.perf_counter()
        model.fit(*args, **{**given, "steps_per_epoch": steps, **more}, epochs=1, verbose=0)  # type: ignore[misc]
        return time.perf_counter() - start

    execution = model.steps_per_execution
    with_validation = {} if validation is None else {"validation_data": validation, "validation_steps": execution}
    first, short = fit(execution, **with_validation), fit(execution)
    more = min(9 * execution, steps or math.inf)
    if more == execution or steps is None:
        epoch = fit(steps)
    else:
        epoch = short + max(0.0, fit(more) - short) / (more - execution) * (steps - execution)
    start = time.perf_counter()
    if validation is not None:
        data = validation if isinstance(validation, tuple) else (validation,)
        model.evaluate(*data, batch_size=size_of_validation, verbose=0)  # type: ignore[misc]
    return build, max(0.0, first - short), epoch + time.perf_counter() - start


def _steps(args: tuple[Any, ...], given: Mapping[str, Any]) -> int | None:
    """Steps of an epoch; `None` where the data do not say."""
    if given.get("steps_per_epoch"):
        return given["steps_per_epoch"]
    data, size = args[0] if args else given["x"], _batch_size(args, given)
    if size is not None:
        return math.ceil(_rows(data, given) / size)
    if hasattr(data, "cardinality"):
        steps = int(data.cardinality())
        return steps if steps > 0 else None
    return len(data) if hasattr(data, "__len__") else None


def _batch_size(args: tuple[Any, ...], given: Mapping[str, Any]) -> int | None:
    """Size of the search's batches, which Keras makes larger for the few steps measured; `None` where data have one."""
    data = args[0] if args else given["x"]
    if not hasattr(keras.tree.flatten(data)[0], "shape"):  # data sets and generators, not arrays
        return None
    steps = given.get("steps_per_epoch")
    return given.get("batch_size") or (math.ceil(_rows(data, given) / steps) if steps else 32)


def _rows(data: Structure, given: Mapping[str, Any]) -> int:
    """Number of examples in arrays that are trained on."""
    return math.floor(len(keras.tree.flatten(data)[0]) * (1.0 - (given.get("validation_split") or 0.0)))


def _words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
