"""The options of `compile`, checked and keyed by task."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import as_list, check_boolean, check_number
from keras_mtl._types import LossLike, Structure, Tasks
from keras_mtl.losses.names import get_loss
from keras_mtl.metrics.delta_m import DeltaM

ON_NONFINITE = ("raise", "skip_task", "skip_step")


class Options:
    """The arguments of `compile` that are not Keras' own.

    They stay what they are while the model trains; what runs is `Compiled`.

    Args:
        given: Dict of these arguments.
        outputs: Dict from task to Keras tensor.

    Attributes:
        given: As above.
        outputs: As above.
        tasks: Tuple of the tasks with a loss, in the order of the outputs.
        losses: Dict from these to `keras.losses.Loss`.
        loss_weights: List of their static weights, numbers or variables.
        metrics: Dict from `"metrics"` and `"weighted_metrics"` to a dict from
            task to a list of metrics as Keras takes them.
        missing: Dict from task to `"nan"` or the label that means "missing".
        sample_space: Dict from task to the task whose label must be 1.
        class_weight: Dict from task to a dict from class to weight.
        penalties: Dict from task to a penalty or a list of them.
        delta_m: `keras_mtl.metrics.DeltaM` or `None`.
        diagnostics: Boolean.
        on_nonfinite: String.
        check_inputs: Boolean.
    """

    def __init__(self, given: Mapping[str, Any], outputs: Mapping[str, keras.KerasTensor]) -> None:
        self.given = given
        self.outputs = outputs
        self.losses = self._losses(given["loss"])
        self.tasks = tuple(self.losses)
        self.loss_weights = self.checked_loss_weights(given["loss_weights"])
        self.metrics = {name: self._metrics(given[name], name) for name in ("metrics", "weighted_metrics")}
        self.missing = self._missing(given["missing"])
        self.sample_space = self._sample_space(given["sample_space"])
        self.class_weight = self._class_weight(given["class_weight"])
        self.penalties = given["penalties"] or {}
        self.delta_m = _delta_m(given["delta_m"])
        self.diagnostics = check_boolean(given["diagnostics"], "diagnostics")
        self.on_nonfinite = given["on_nonfinite"]
        if self.on_nonfinite not in ON_NONFINITE:
            raise ValueError(
                f"`on_nonfinite` should be one of {ON_NONFINITE}. Received: on_nonfinite={self.on_nonfinite!r}"
            )
        self.check_inputs = check_boolean(given["check_inputs"], "check_inputs")

    def get_config(self, **current: Any) -> dict[str, Any]:
        """The options as `compile_from_config` takes them back.

        Args:
            **current: Options that training has changed, as they are now.
        """
        config = {**self.given, "class_weight": self.class_weight or None, **current}
        return {key: keras.saving.serialize_keras_object(value) for key, value in config.items()}

    def of_task(self, task: str) -> Structure:
        """The options for a model of one task alone: same loss, metrics, labels, penalties."""
        options = {"weighting": "equal", "loss": self.losses[task]}
        by_task = {**self.metrics, "missing": self.missing, "class_weight": self.class_weight}
        for name, given in {**by_task, "penalties": self.penalties}.items():
            options[name] = {task: given[task]} if task in given else None
        return options

    def checked_loss_weights(self, loss_weights: Structure) -> list[float]:
        """List of the static weights, numbers or variables; 1 where none is given."""
        what = f"keyed by task, or a list in the order of the tasks {list(self.tasks)}"
        loss_weights = self._in_order(loss_weights, "loss_weights", self.tasks)
        loss_weights = _dict(loss_weights, "loss_weights", self.tasks, what)
        for task, weight in loss_weights.items():
            value = ops.convert_to_numpy(ops.convert_to_tensor(weight)) if hasattr(weight, "__array__") else weight
            value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            if not _is_number(value) or not 0 <= value <= np.finfo("float32").max:
                raise ValueError(
                    "`loss_weights` should be finite and at least 0: numbers, or scalar `keras.Variable`s that may "
                    f"change. Received: {weight!r} for task '{task}'"
                )
        return [loss_weights.get(task, 1.0) for task in self.tasks]

    def _losses(self, loss: LossLike | Mapping[str, LossLike]) -> dict[str, keras.losses.Loss]:
        if loss is None:
            raise ValueError(
                f"`loss` should be given for the tasks, as a dict {list(self.outputs)}. Received: loss=None"
            )
        loss = self._in_order(loss, "loss")
        if not isinstance(loss, dict):
            loss = dict.fromkeys(self.outputs, loss)
        _check_tasks(loss, "loss", self.outputs)
        losses = {task: get_loss(loss[task], task) for task in self.outputs if loss.get(task) is not None}
        if not losses:
            raise ValueError(
                f"`loss` should be given for at least one task of {tuple(self.outputs)}. Received: loss={loss}"
            )
        return losses

    def _metrics(self, given: Structure, argument: str) -> dict[str, list[Any]]:
        if given is None:
            return {}
        if isinstance(given, (list, tuple)) and len(self.outputs) > 1:
            # One list for each task, or one metric for each; a single one is for all of them.
            if len(given) != 1 or isinstance(given[0], (list, tuple)):
                given = self._in_order(given, argument)
        elif isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = given[0]
        if not isinstance(given, dict):
            flat = as_list(given)
            if any(isinstance(metric, keras.metrics.Metric) for metric in flat) and len(self.outputs) > 1:
                raise ValueError(
                    f"`{argument}` should be a dict keyed by task, so that no two tasks share a metric's state. "
                    f"Received: {argument}={given!r}"
                )
            given = dict.fromkeys(self.outputs, given)
        _check_tasks(given, argument, self.outputs)
        return {task: as_list(value) for task, value in given.items() if value is not None}

    def _missing(self, missing: Mapping[str, Any] | float | str | None) -> dict[str, Any]:
        if not isinstance(missing, dict):
            missing = {} if missing is None else dict.fromkeys(self.outputs, missing)
        _check_tasks(missing, "missing", self.outputs)
        for task, value in missing.items():
            if value is not None and value != "nan" and not _is_number(value):
                raise ValueError(f"`missing` of task '{task}' should be 'nan', a number or None. Received: {value!r}")
        return {
            task: "nan" if value != "nan" and np.isnan(value) else value
            for task, value in missing.items()
            if value is not None
        }

    def _sample_space(self, sample_space: Mapping[str, str] | None) -> dict[str, str]:
        # Of outputs without a loss too, for their metrics.
        sample_space = _dict(sample_space, "sample_space", self.outputs, "from task to the task whose label must be 1")
        for task, condition in sample_space.items():
            if condition not in self.outputs or condition == task:
                raise ValueError(
                    f"`sample_space` of task '{task}' should name another task of {tuple(self.outputs)}. "
                    f"Received: {condition!r}"
                )
        return sample_space

    def _class_weight(self, class_weight: Mapping[str, Mapping[int, float]] | None) -> dict[str, Any]:
        class_weight = _dict(class_weight, "class_weight", self.tasks, "from task to a dict from class to weight")
        for task, by_class in class_weight.items():
            if not isinstance(by_class, dict) or not by_class:
                raise ValueError(
                    f"`class_weight` of task '{task}' should be a dict from class to weight. Received: {by_class!r}. "
                    "Balanced weights of labels `y` are `len(y) / (len(counts) * counts)` with "
                    "`counts = np.bincount(y)`, as `dict(enumerate(...))`"
                )
        return {
            task: {_class_id(c, task): check_number(w, f"class_weight['{task}'][{c}]", least=0) for c, w in ws.items()}
            for task, ws in class_weight.items()
        }

    def _in_order(self, given: Structure, argument: str, tasks: Tasks | None = None) -> Structure:
        """What is given as a list, in the order of the outputs as Keras has it, as a dict keyed by task."""
        if not isinstance(given, (list, tuple)):
            return given
        for names in (self.outputs, tasks or self.outputs):
            if len(given) == len(names):
                return {task: value for task, value in zip(names, given, strict=True) if tasks is None or task in tasks}
        raise ValueError(
            f"`{argument}` should be a dict keyed by task, or a list with an entry for each task of "
            f"{list(self.outputs)}. Received: {argument}={given!r}"
        )


def _dict(given: Mapping[str, Any] | None, argument: str, tasks: Tasks, what: str) -> dict[str, Any]:
    """A dict keyed by task; empty where nothing is given."""
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise ValueError(f"`{argument}` should be a dict {what}. Received: {argument}={given!r}")
    _check_tasks(given, argument, tasks)
    return given


def _check_tasks(given: Mapping[str, Any], argument: str, tasks: Tasks) -> None:
    unknown = [task for task in given if task not in tasks]
    if unknown:
        raise ValueError(f"The keys of `{argument}` should be tasks: {list(tasks)}. Received: {unknown}")


def _delta_m(delta_m: DeltaM | Mapping[str, Any] | None) -> DeltaM | None:
    delta_m = DeltaM(delta_m) if isinstance(delta_m, dict) else delta_m
    if delta_m is not None and not isinstance(delta_m, DeltaM):
        raise ValueError(
            "`delta_m` should be a `keras_mtl.metrics.DeltaM`, or a dict from task to a dict from metric to its "
            f"single-task value. Received: delta_m={delta_m!r}"
        )
    return delta_m


def _class_id(given: Structure, task: str) -> int | None:
    """A class as an integer; one from a saved model is a string, as JSON's keys are."""
    try:
        if int(given) == float(given):
            return int(given)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"The classes in `class_weight` of task '{task}' should be integers. Received: {given!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
