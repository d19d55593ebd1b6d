"""One training run of a comparison: training and test, the data of one task, the time of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._types import Data, Structure, Tensor
from keras_mtl.analysis.grouping._select import selected

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel
    from keras_mtl.models.multi_task_model import MultiTaskModel

# What `train_and_evaluate` gives, as `RunStore.load` checks it.
RUN = {"values": dict, "curves": dict, "parameters": int, "step_ms": (int, float), "seconds": (int, float)}


def has_values(names: Collection[str]) -> Callable[[Mapping[str, Any]], None]:
    """A function that raises where a kept run lacks numbers, as `RunStore.load` takes it.

    Args:
        names: Names of its values, as in the logs.
    """

    def check(run: Mapping[str, Any]) -> None:
        for name in names:
            if type(run["values"].get(name)) not in (int, float):
                raise ValueError(f"it has no number `{name}`")
        if not all(isinstance(curve, list) for curve in run["curves"].values()):
            raise ValueError("its `curves` are no lists")

    return check


def train_and_evaluate(
    model: MultiTaskModel | GroupedModel,
    data: Data,
    validation: Data | None,
    test: Data,
    epochs: int,
    fit_options: Mapping[str, Any],
) -> dict[str, Any]:
    """Trains a compiled model and evaluates it once, after the last epoch.

    Args:
        model: Compiled `MultiTaskModel`.
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, or a data set.
        validation: Same, for validation curves; may be `None`.
        test: Same, for the final values.
        epochs: Integer.
        fit_options: Dict of further arguments of `fit`.

    Returns:
        Dict of the final values, the curves, parameters and times.
    """
    clock = StepClock()
    options = dict(fit_options)
    options["callbacks"] = [*(options.get("callbacks") or ()), clock]
    start = time.perf_counter()
    history = model.fit(**_arguments(data), epochs=epochs, validation_data=validation, verbose=0, **options)
    seconds = time.perf_counter() - start
    batch_size = {k: v for k, v in fit_options.items() if k == "batch_size"}
    values = model.evaluate(**_arguments(test), return_dict=True, verbose=0, **batch_size)
    return {
        "values": {name: float(value) for name, value in values.items() if np.ndim(value) == 0},
        "curves": {name: [float(v) for v in curve] for name, curve in history.history.items() if np.ndim(curve) == 1},
        "parameters": sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights),
        "step_ms": clock.milliseconds(),
        "seconds": seconds,
    }


def labels_of(data: Data, task: str, condition: str | None = None, columns: Collection[str] = ()) -> Data:
    """The same data with the labels and sample weights of one task alone.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`
            or `PyDataset` of such tuples, or `None`.
        task: String. The task.
        condition: `None`, or another task: examples whose label of it is not 1
            get sample weight 0, and so count as unlabelled.
        columns: Names of what its metrics and penalties read beside the labels.

    Returns:
        As `data`.
    """

    def select(x: Structure, y: Mapping[str, Tensor], sample_weight: Structure | None = None) -> tuple[Any, ...]:
        weight = sample_weight.get(task) if isinstance(sample_weight, dict) else sample_weight
        if condition is not None:
            inside = _is_one(y[condition])
            weight = inside if weight is None else inside * weight
        labels = {name: y[name] for name in (task, *columns) if name in y}
        return (x, labels) if weight is None else (x, labels, {task: weight})

    return selected(data, select)


def _is_one(labels: Tensor) -> Tensor:
    """1.0 where labels are 1, as arrays or as tensors, whichever they are."""
    if keras.ops.is_tensor(labels):
        return keras.ops.cast(keras.ops.equal(labels, 1), "float32")
    return (np.asarray(labels) == 1).astype("float32")


def _arguments(data: Data) -> dict[str, Any]:
    """Data as keyword arguments: the third positional one of `fit` is the batch size."""
    return dict(zip(("x", "y", "sample_weight"), data if isinstance(data, tuple) else (data,), strict=False))


class StepClock(keras.callbacks.Callback):
    """Milliseconds of a step: the median, so that tracing does not count.

    Where it has seen several trainings, as of a `GroupedModel`'s networks, a
    step is one of each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trainings, self._start = [], 0.0

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._trainings.append([])
        self._steps_at_once = self.model.steps_per_execution

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        # With steps_per_execution=n this is called every n steps.
        self._trainings[-1].append((time.perf_counter() - self._start) / self._steps_at_once)

    def milliseconds(self) -> float:
        """The median of the steps so far; 0 before the first."""
        return 1000 * sum(float(np.median(times)) for times in self._trainings if times)
