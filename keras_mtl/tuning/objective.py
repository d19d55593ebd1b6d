"""The objective of a search over sharing and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Tensor
from keras_mtl.metrics.delta_m import DeltaM, delta_m
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    import keras_tuner

# Metrics whose worst and best values their names tell.
_FROM_0_TO_1 = ("accuracy", "acc", "auc", "precision", "recall", "f1", "iou", "dice")


def objective(
    baselines: DeltaM | Mapping[str, Mapping[str, float]] | None = None,
    *,
    metrics: Mapping[str, str | Sequence[str]] | None = None,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    directions: Mapping[str, str] | None = None,
    prefix: str = "val_",
) -> keras_tuner.Objective:
    """A `keras_tuner.Objective` that no task weight can change.

    `val_loss` sums the tasks' losses times their static weights, and penalties
    besides. Where weights are searched, the search wins by weighing down what
    it cannot learn. This objective is computed from the tasks' own metrics:

    - with `baselines`, `delta_m`: the mean relative gain over stored
      single-task models, in percent, as `keras_mtl.metrics.DeltaM` logs it;
    - with `metrics`, `task_mean = mean_k mean_j (M_kj - worst_kj) / (best_kj - worst_kj)`,
      for where there are no baselines: 0 at the worst value and 1 at the best,
      for every task.

    It works with any tuner and any model that logs the tasks' metrics. With
    `executions_per_trial`, keras-tuner takes the mean.

    Args:
        baselines: A `keras_mtl.metrics.DeltaM`, or the dict from task to metric
            to single-task value that it takes, such as
            `keras_mtl.analysis.compare(...).baseline_means`. Defaults to
            `None`.
        metrics: Dict from task to a metric or a list of them, named as in the
            logs after the task. Defaults to `None`.
        ranges: Dict from task to a dict from metric to `(worst, best)`, such as
            the error of a constant and that which would do. Not needed for
            metrics between 0 and 1, such as accuracy. Defaults to `None`.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell. Defaults to `None`.
        prefix: String. `"val_"` for validation data, `""` for training data.
            Defaults to `"val_"`.

    Returns:
        A `keras_tuner.Objective` named `"val_delta_m"` or `"val_task_mean"`;
        more is better.

    Raises:
        ValueError: If not exactly one of `baselines` and `metrics` is given, a
            baseline is 0, a metric's direction is unknown, or its range is.

    Example:

    >>> baselines = {"left": {"accuracy": 0.9}, "price": {"mae": 2.0}}
    >>> objective = keras_mtl.tuning.objective(baselines)
    >>> objective.name, objective.direction
    ('val_delta_m', 'max')
    >>> round(objective.get_value({"val_left_accuracy": 0.99, "val_price_mae": 2.1, "val_loss": 1e9}), 6)
    2.5
    >>> by_range = keras_mtl.tuning.objective(
    ...     metrics={"left": "accuracy", "price": "mae"}, ranges={"price": {"mae": (4.0, 0.0)}}
    ... )
    >>> round(by_range.get_value({"val_left_accuracy": 0.9, "val_price_mae": 2.0}), 6)
    0.7
    """
    if (baselines is None) == (metrics is None):
        raise ValueError(
            "`objective` should be given either `baselines` or `metrics`. "
            f"Received: baselines={baselines!r}, metrics={metrics!r}"
        )
    from keras_mtl.tuning._weight_free_objective import WeightFreeObjective

    if baselines is not None:
        given = baselines if isinstance(baselines, DeltaM) else DeltaM(baselines, directions)

        def gain(values: Tensor) -> float:
            return delta_m(values, given.baselines, given.directions)

        return WeightFreeObjective("delta_m", given.baselines, gain, prefix)
    metrics = {task: [m] if isinstance(m, str) else list(m) for task, m in metrics.items()}
    spans = _spans(metrics, ranges or {}, directions)

    def mean(values: Tensor) -> float:
        of_tasks = []
        for task, of_task in spans.items():
            scaled = [(values[task][m] - worst) / (best - worst) for m, (worst, best) in of_task.items()]
            of_tasks.append(sum(scaled) / len(scaled))
        return sum(of_tasks) / len(of_tasks)

    return WeightFreeObjective("task_mean", metrics, mean, prefix)


def _spans(
    metrics: Mapping[str, Any],
    ranges: Mapping[str, Mapping[str, tuple[float, float]]],
    directions: Mapping[str, str] | None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """Dict from task to metric to its worst and best values."""
    if unknown := [task for task in ranges if task not in metrics]:
        raise ValueError(f"The keys of `ranges` should be tasks of `metrics`, {list(metrics)}. Received: {unknown}")
    spans = {}
    for task, of_task in metrics.items():
        if not of_task:
            raise ValueError(f"`metrics` should have a metric for task '{task}'. Received: {of_task}")
        spans[task] = {}
        for metric in of_task:
            span = ranges.get(task, {}).get(metric)
            higher = higher_is_better(metric, directions)
            if span is None and higher and any(word in metric.lower().split("_") for word in _FROM_0_TO_1):
                span = (0.0, 1.0)
            if span is None or len(span) != 2 or span[0] == span[1] or (span[1] > span[0]) != higher:
                raise ValueError(
                    f"`ranges` should have (worst, best) for metric '{metric}' of task '{task}', where "
                    f"{'more' if higher else 'less'} is better. Received: {span}"
                )
            spans[task][metric] = tuple(map(float, span))
    return spans
