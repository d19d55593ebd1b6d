"""The metrics of each task, over its labelled examples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.metrics._names import FunctionMetric, get_metric

if TYPE_CHECKING:
    from keras_mtl.fairness.demographic_parity_gap import DemographicParityGap
    from keras_mtl.losses.labels import Labels

# They look at a vector as a whole, so no entry of it can be left out.
_OF_VECTORS = (
    keras.metrics.CategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.CategoricalHinge,
    keras.metrics.ConcordanceCorrelation,
    keras.metrics.CosineSimilarity,
    keras.metrics.KLDivergence,
    keras.metrics.OneHotIoU,
    keras.metrics.OneHotMeanIoU,
    keras.metrics.PearsonCorrelation,
    keras.metrics.TopKCategoricalAccuracy,
)


class TaskMetric(keras.metrics.Metric):
    """A Keras metric of one task, over its labelled examples.

    Args:
        task: String. The task.
        metric: A `keras.metrics.Metric`.
        weighted: Boolean. Whether sample and class weights apply.
        name: String. Name in the logs.
        counted: `None`, or a function that gives a boolean scalar: whether the
            task has had a labelled example. Without one, it is looked up here.

    It is NaN as long as there was no labelled example. A metric with an
    attribute `column` gets that entry of `y` as `groups`, and sees no batch
    without it.
    """

    def __init__(
        self,
        task: str,
        metric: keras.metrics.Metric,
        weighted: bool,
        name: str,
        counted: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__(name=name)
        self.task = task
        self.metric = metric
        self.weighted = weighted
        self.column = getattr(metric, "column", None)
        self._counted = counted
        self._seen = None
        if counted is None or self.column is not None:
            self._seen = self.add_weight(shape=(), initializer="zeros", name="seen")
            self._counted = lambda: self._seen.value > 0

    def update_state(self, labels: Labels, columns: Mapping[str, Tensor]) -> None:
        """Adds one batch's `Labels` of the task."""
        if self.column is not None and self.column not in columns:
            return
        if self._seen is not None:
            self._seen.assign_add(1.0 if labels.mask is None else ops.max(labels.mask))
        beside = {} if self.column is None else {"groups": columns[self.column]}
        y_true, y_pred, weight, mask = labels.y_true, labels.y_pred, labels.mask, labels.mask
        only_mask = not self.weighted or labels.weight is None
        if not only_mask:
            weight = labels.metric_weight if mask is None else mask * labels.metric_weight
        elif mask is not None and "int" in str(self.metric.dtype):
            weight = ops.cast(mask, self.metric.dtype)  # counts of integers, as those of `MeanIoU`
        if isinstance(self.metric, FunctionMetric):
            beside["only_mask"] = only_mask
        elif labels.entrywise:
            y_true, y_pred, weight = entries_for(self.metric, y_true, y_pred, weight, self.task, only_mask)
        try:
            self.metric.update_state(y_true, y_pred, sample_weight=weight, **beside)
        except Exception as error:
            raise ValueError(
                f"The metric '{self.metric.name}' of task '{self.task}' should take its labels and predictions. "
                f"Received: shapes {tuple(y_true.shape)} and {tuple(y_pred.shape)}. The metric says: {error}"
            ) from error

    def result(self) -> Tensor:
        counted = self._counted()  # type: ignore[misc]

        def known(value: Tensor) -> Tensor:
            value = ops.convert_to_tensor(value)
            value = value if "float" in str(value.dtype) else ops.cast(value, "float32")
            return ops.where(counted, value, ops.full_like(value, np.nan))

        return keras.tree.map_structure(known, self.metric.result())

    def reset_state(self) -> None:
        self.metric.reset_state()
        if self._seen is not None:
            self._seen.assign(0.0)


def make_task_metrics(
    given: Mapping[str, Mapping[str, Sequence[DemographicParityGap | str]]],
    losses: Mapping[str, keras.losses.Loss],
    outputs: Mapping[str, keras.KerasTensor],
    counted: Callable[..., Any],
) -> list[TaskMetric]:
    """Makes the metrics of all tasks.

    Args:
        given: Dict from `"metrics"` and `"weighted_metrics"` to a dict from
            task to a list of metrics as Keras takes them.
        losses: Dict from trained task to `keras.losses.Loss`.
        outputs: Dict from task to Keras tensor.
        counted: Function that takes a trained task and gives a boolean scalar:
            whether it has had a labelled example.

    Returns:
        List of `TaskMetric`, named `<task>_<metric>`.
    """
    found, names, owners = [], set(), {}
    for argument, by_task in given.items():
        weighted = argument == "weighted_metrics"
        for task, identifier in [(of, one) for of in outputs for one in by_task.get(of, ())]:
            metric = get_metric(identifier, task, tuple(outputs[task].shape))
            if id(metric) in owners:
                raise ValueError(
                    f"`{argument}` of task '{task}' should be metrics of its own, or two logs would be made of the "
                    f"same state. Received: '{metric.name}', which is in {owners[id(metric)]} too"
                )
            owners[id(metric)] = f"`{argument}` of task '{task}'"
            if hasattr(metric, "check_task"):
                metric.check_task(task, losses.get(task), tuple(outputs[task].shape))
            label = identifier if isinstance(identifier, str) else metric.name
            name = f"{task}_{label}"
            if name in names:
                name = f"{task}_weighted_{label}" if weighted else f"{name}_{len(names)}"
            names.add(name)
            of_task = functools.partial(counted, task) if task in losses else None
            found.append(TaskMetric(task, metric, weighted, name, of_task))
    return found


def entries_for(
    metric: keras.metrics.Metric,
    y_true: Tensor,
    y_pred: Tensor,
    weight: Tensor | None,
    task: str,
    only_mask: bool = True,
) -> tuple[Tensor, Tensor, Tensor | None] | tuple[Tensor, Tensor, None]:
    """What a metric is given where single entries are masked.

    A metric that keeps a number for each label (with an attribute
    `multi_label` that is true, and `R2Score`) gets the vectors and a weight for
    each entry; F-scores, which take no such weights, predictions that are 0
    where the label is missing; other metrics one entry as one example.

    Args:
        metric: A `keras.metrics.Metric`.
        y_true: Labels of shape `(..., L)`; 0 where they are missing.
        y_pred: Predictions of the same shape.
        weight: `None` or a tensor that broadcasts to that shape; 0 where a
            label is missing.
        task: String. The task, for messages.
        only_mask: Boolean. Whether `weight` has no numbers but 0 and 1.

    Returns:
        Tuple of `y_true`, `y_pred` and `sample_weight` for `update_state`.
    """
    if weight is not None:
        weight = ops.broadcast_to(weight, ops.shape(y_pred))
    if isinstance(metric, keras.metrics.FBetaScore):
        if metric.threshold is None or not only_mask:
            raise ValueError(
                f"Metric '{metric.name}' of task '{task}' should have a `threshold` and no weights other than 0 and 1, "
                f"since single entries of the labels are missing. Received: threshold={metric.threshold}"
            )
        # Counted nowhere: neither predicted nor true.
        return y_true, y_pred if weight is None else ops.where(weight > 0, y_pred, ops.zeros_like(y_pred)), None
    if getattr(metric, "multi_label", False) or isinstance(metric, keras.metrics.R2Score):
        return y_true, y_pred, weight
    if isinstance(metric, _OF_VECTORS):
        raise ValueError(
            f"The metrics of task '{task}' should count single entries, since single entries of its labels are missing "
            f"or weighted. Received: '{metric.name}', which looks at whole vectors"
        )
    weight = None if weight is None else ops.reshape(weight, (-1,))
    return ops.reshape(y_true, (-1, 1)), ops.reshape(y_pred, (-1, 1)), weight
