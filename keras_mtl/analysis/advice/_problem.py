"""The problem that `advise` is given: arguments checked, data split, models built."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_mtl import models
from keras_mtl import weighting as weightings
from keras_mtl._checks import as_list
from keras_mtl._types import Data, Heads, Stages, Structure
from keras_mtl.analysis.advice._arrays import arrays_of, is_number, size_of, take
from keras_mtl.analysis.advice._widths import parameters_of, with_width
from keras_mtl.losses.arrays import by_task, check_lengths
from keras_mtl.metrics.delta_m import delta_m
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import as_initialized
from keras_mtl.models._fresh import fresh_inputs, fresh_layer, fresh_metrics
from keras_mtl.models.multi_task_model import MultiTaskModel

_HELD_OUT = 0.2  # the part of the training examples that validates, where no others are given
_DRAWS = 20  # of such a part, in which each task should have labels
_SEEDS = 200_003  # global seeds of a call lie within so many: those of the search and of the last trainings


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to share and to weigh.

    Args:
        name: String. What tables call it.
        reason: String. Why it is tried, with what was seen.
        builder: String. Name of the builder.
        options: Dict of the builder's options.
        weighting: String. Defaults to `"equal"`.
        gradients: String. As `compile` takes it. Defaults to `"parameters"`.
        width: Float. By what the widths of all stages are multiplied. Defaults
            to `1.0`.
    """

    name: str
    reason: str
    builder: str = "hard_sharing"
    options: dict = dataclasses.field(default_factory=dict)
    weighting: str = "equal"
    gradients: str = "parameters"
    width: float = 1.0

    def settings(self) -> dict[str, Any]:
        """All that changes the model, as JSON-compatible values."""
        names = ("builder", "options", "weighting", "gradients", "width")
        return {name: getattr(self, name) for name in names}


class Problem:
    """Data, layers and settings of a call of `advise`.

    Attributes:
        tasks: Tuple of K names.
        metrics: Dict from task to the name of the metric that counts.
        scales: Dict from task to mean and standard deviation of its labels,
            where they are standardized.
        unlearned: Set of the tasks of which nothing is learned, once that is
            known. They do not count.
        held_out: Boolean. Whether the validation examples were split off.

    Args:
        As `advise` takes them.

    Raises:
        ValueError: If something is missing or does not fit.
    """

    def __init__(
        self,
        inputs: keras.KerasTensor,
        stages: Stages,
        heads: Heads,
        *,
        train: tuple[np.ndarray, Mapping[str, np.ndarray]],
        validation: Data,
        test: Data,
        compile: Mapping[str, str],
        metrics: Mapping[str, str],
        directions: Mapping[str, str],
        batch_size: int,
        standardize: bool,
        seed: int = 0,
    ) -> None:
        self.inputs = check_inputs(inputs)
        self.stages, self.heads = check_stages(stages), check_heads(heads)
        stacks = (*self.stages, *self.heads.values())
        # Told once, since initializers draw other numbers in another process.
        self._have_learned = {id(layer) for stack in stacks for layer in stack if not as_initialized(layer)}
        self.tasks = tuple(self.heads)
        if len(self.tasks) < 2:
            raise ValueError(
                f"`heads` should have two tasks or more, or there is nothing to share. Received: {list(self.tasks)}"
            )
        if not self.stages:
            raise ValueError("`stages` should have at least one stage, or there is nothing to share. Received: none")
        self.unlearned = set()
        self.batch_size, self.directions, self.seed = batch_size, directions, seed
        self.compile_options = _check_compile(compile)
        self.metrics = self._check_metrics(metrics)

        def arrays(data: Data, argument: str) -> tuple[Any, ...]:
            return arrays_of(data, argument, self.tasks, self.inputs)

        self.all_training, self.test = arrays(train, "train"), arrays(test, "test")
        self.held_out = validation is None
        if self.held_out:
            rows = self.split(0)
            self.train, self.validation = (take(self.all_training, part) for part in rows)
        else:
            self.train, self.validation = (
                self.all_training,
                arrays_of(validation, "validation", self.tasks, self.inputs),
            )
        self._check_labels()
        self.scales = {}
        if standardize:
            self._standardize()
        self._base = self.build(Candidate("all shared", ""))  # finds now what does not fit
        self._check_logs()

    @property
    def has_own_weighting(self) -> bool:
        """Whether `compile` says how tasks are weighed."""
        return "weighting" in self.compile_options

    @property
    def parameters(self) -> int:
        """Trainable parameters of the fully shared model."""
        return parameters_of(self._base)

    def global_seed(self, seed: int) -> int:
        """Keras' global seed of a training that counts its seeds from 0."""
        return _SEEDS * self.seed + seed

    def missing_of(self, task: str) -> str | None:
        """What marks a missing label of a task, or `None`."""
        missing = self.compile_options.get("missing")
        return missing.get(task) if isinstance(missing, dict) else missing

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Which examples train and which validate, where these are split off.

        Each seed holds out others, in both of which every task that counts has
        labels if that can be had: what the choice of a few examples makes of a
        difference is seen between seeds, and their mean rests on more of them.

        Args:
            seed: Integer, counted from 0.

        Returns:
            Tuple of two arrays of rows.
        """
        size = size_of(self.all_training)
        count = max(1, round(_HELD_OUT * size))
        known = [self.known(self.all_training[1], task) for task in self.metrics]
        rng = np.random.default_rng([self.seed, seed])
        for _ in range(_DRAWS):
            order = rng.permutation(size)
            rows = np.sort(order[count:]), np.sort(order[:count])
            if all(labelled[part].any() for part in rows for labelled in known):
                break
        return rows

    def known(self, y: Mapping[str, np.ndarray], task: str) -> Structure:
        """Which examples have a label of a task, as a boolean array of shape `(N,)`."""
        labels, missing = np.asarray(y[task]), self.missing_of(task)
        if missing is None:
            return np.ones(len(labels), bool)
        if missing == "nan" or (isinstance(missing, float) and np.isnan(missing)):
            found = ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(labels.shape, bool)
        else:
            found = labels != missing
        return found.reshape(len(labels), -1).any(axis=1)

    def arrays(self, data: Data) -> tuple[Any, ...]:
        """Inputs, labels and weights as `fit` makes them of what it is given."""
        compiled = self._base.compiled_tasks
        x, y, weight = (*data, None)[:3]
        y, weight = by_task(y, "y", compiled), by_task(weight, "sample_weight", compiled)
        check_lengths(x, y, weight)
        compiled.check_columns(y)
        if weight is None:
            return x, y
        return x, y, {key: weight.get(key) for key in y} if isinstance(weight, dict) else weight

    def build(self, candidate: Candidate) -> MultiTaskModel:
        """A compiled model of a candidate, of fresh layers.

        Args:
            candidate: `Candidate`.

        Returns:
            A `MultiTaskModel` with a built optimizer.
        """
        builder = getattr(models, candidate.builder)
        inputs, stages, heads = self.fresh_parts(candidate.width)
        options = copy.deepcopy(candidate.options)
        # Where pretrained stages are copied, every copy starts from what they have learned.
        copied = self.stages[options.get("shared_depth") or 0 :]
        if any(self._has_learned(layer) for stack in copied for layer in stack):
            options["copy_weights"] = True
        if not set(options) <= set(inspect.signature(builder).parameters):
            options.pop("copy_weights")
        model = builder(inputs, stages, heads, **options)
        model.compile(**self.compile_arguments(candidate))
        model.optimizer.build(model.trainable_variables)
        return model

    def fresh_parts(self, width: float = 1.0) -> Structure:
        """Inputs, stages and heads, made anew."""

        def fresh(layer: keras.Layer, change: Callable[..., Any] | None = None) -> keras.Layer:
            return fresh_layer(layer, change, weights=self._has_learned(layer))

        def widen(config: dict[str, Any]) -> Structure:
            return config if width == 1.0 else with_width(config, width)

        stages = [[fresh(layer, widen) for layer in stack] for stack in self.stages]
        heads = {task: [fresh(layer) for layer in stack] for task, stack in self.heads.items()}
        return fresh_inputs(self.inputs), stages, heads

    def _has_learned(self, layer: keras.Layer) -> bool:
        """Whether a layer came with weights that are not what its initializers draw."""
        return id(layer) in self._have_learned

    def __getstate__(self) -> dict[str, Any]:
        """What another process makes it of, without what follows from the rest."""
        layers = [layer for stack in (*self.stages, *self.heads.values()) for layer in stack]
        state = {**self.__dict__, "_have_learned": [self._has_learned(layer) for layer in layers]}
        for name in ("_base", *(("train", "validation") if self.held_out else ())):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        layers = [layer for stack in (*self.stages, *self.heads.values()) for layer in stack]
        self._have_learned = {id(layer) for layer, has in zip(layers, self._have_learned, strict=True) if has}
        if self.held_out:
            self.train, self.validation = (take(self.all_training, part) for part in self.split(0))
        self._base = self.build(Candidate("all shared", ""))

    def compile_arguments(self, candidate: Candidate) -> dict[str, Structure]:
        """Arguments of `compile`, with an optimizer and metrics of its own."""
        options = {name: fresh_metrics(value) for name, value in self.compile_options.items()}
        options["optimizer"] = type(options["optimizer"]).from_config(options["optimizer"].get_config())
        if not self.has_own_weighting:
            options.update(weighting=candidate.weighting, gradients=candidate.gradients)
        elif candidate.name == "nothing shared" and weightings.get(options["weighting"]).sees_gradients:
            options.update(weighting="equal", gradients="parameters")  # no gradient is shared that could be weighed
            options = {n: v for n, v in options.items() if n not in ("gramian_fraction", "diagnostics")}
        return options

    def gain(self, score: Mapping[str, float]) -> float:
        """delta_m: the mean over the tasks that count, without those of which nothing is learned.

        Args:
            score: Dict from task to its gain, as `score` returns it.
        """
        return float(np.mean([score[task] for task in self.metrics if task not in self.unlearned]))

    def score(self, values: Mapping[str, float], baselines: Mapping[str, float]) -> dict[str, float]:
        """delta_m, in percent, of values in the logs over those of a baseline.

        Args:
            values: Dict from log, such as `"price_mae"`, to number.
            baselines: Same, of the single-task columns.

        Returns:
            Dict from task to its gain.
        """
        gains = {}
        for task, metric in self.metrics.items():
            single = baselines[f"{task}_{metric}"] or 1e-9  # as where nothing is right: any gain is large
            gains[task] = delta_m(
                {task: {metric: values[f"{task}_{metric}"]}}, {task: {metric: single}}, self.directions
            )
        return gains

    def _check_metrics(self, metrics: Mapping[str, str]) -> dict[str, str]:
        if not isinstance(metrics, dict) or not metrics:
            raise ValueError(
                f"`metrics` should be a dict from task to the metric that counts. Received: metrics={metrics!r}"
            )
        unknown = [task for task in metrics if task not in self.tasks]
        if unknown:
            raise ValueError(f"`metrics` should name tasks of `heads`: {list(self.tasks)}. Received: {unknown}")
        given = self.compile_options.get("metrics") or {}
        compiled = {task: _as_list(given.get(task)) for task in self.tasks} if isinstance(given, dict) else None
        if compiled is None:
            raise ValueError(f"`compile['metrics']` should be a dict from task to metrics. Received: {given!r}")
        named = {}
        for task, metric in metrics.items():
            named[task] = metric if isinstance(metric, str) else getattr(metric, "name", None)
            if named[task] is None:
                raise ValueError(
                    f"`metrics['{task}']` should be one metric, a string or a `keras.metrics.Metric`. "
                    f"Received: {metric!r}"
                )
            higher_is_better(named[task], self.directions)  # type: ignore[arg-type]
            there = [each if isinstance(each, str) else getattr(each, "name", None) for each in compiled[task]]
            if named[task] != "loss" and named[task] not in there:
                compiled[task].append(metric)
        self.compile_options["metrics"] = {task: of_task for task, of_task in compiled.items() if of_task}
        return named  # type: ignore[return-value]

    def _check_labels(self) -> None:
        for task in self.metrics:
            for argument in ("train", "validation", "test"):
                if not self.known(getattr(self, argument)[1], task).any():
                    more = ", which were split off: give some" if argument == "validation" and self.held_out else ""
                    raise ValueError(
                        f"Task '{task}' should have labels in the {argument} examples{more}. Received: none in "
                        f"{size_of(getattr(self, argument)):,}"
                    )

    def _check_logs(self) -> None:
        compiled = self._base.compiled_tasks
        logged = {metric.name for metric in compiled.task_metrics} | {f"{task}_loss" for task in compiled.tasks}
        unknown = [f"{task}_{metric}" for task, metric in self.metrics.items() if f"{task}_{metric}" not in logged]
        if unknown:
            raise ValueError(f"`metrics` should be in the logs. Received: {unknown}; logs: {sorted(logged)}")

    def _standardize(self) -> None:
        y = self.train[1]
        for task in self.tasks:
            values = np.asarray(y[task])[self.known(y, task)]
            if is_number(values) and np.isfinite(values).all():
                self.scales[task] = (float(values.mean()), float(values.std()) or 1.0)
        self.all_training, self.train, self.validation, self.test = (
            (
                data[0],
                {t: self._scaled(t, data[1]) if t in self.scales else labels for t, labels in data[1].items()},
                *data[2:],
            )
            for data in (self.all_training, self.train, self.validation, self.test)
        )

    def _scaled(self, task: str, y: Mapping[str, np.ndarray]) -> Structure:
        (mean, deviation), known, labels = self.scales[task], self.known(y, task), np.asarray(y[task])
        known = known.reshape(-1, *[1] * (labels.ndim - 1))
        return np.where(known, (labels - mean) / deviation, labels).astype("float32")


def _as_list(value: object) -> list[Any]:
    return [] if value is None else as_list(value)


def _check_compile(options: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(options, dict) or options.get("loss") is None:
        raise ValueError(f"`compile` should be a dict of arguments of `compile`, with `loss`. Received: {options!r}")
    known = inspect.signature(MultiTaskModel.compile).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"`compile` should hold arguments of `MultiTaskModel.compile`. Received: {unknown}")
    return {**options, "optimizer": keras.optimizers.get(options.get("optimizer", "adam"))}
