"""delta_m: the mean relative gain over single-task baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.metrics.directions import higher_is_better


def delta_m(
    values: Mapping[str, Mapping[str, float]],
    baselines: Mapping[str, Mapping[str, float]],
    directions: Mapping[str, str] | None = None,
) -> float:
    """Mean relative gain over single-task baselines, in percent.

    `delta_m = 100 / K * sum_k mean_j s_kj (M_kj - B_kj) / |B_kj|`: K tasks, the
    metrics j of task k, `s_kj` 1 where higher is better and -1 elsewhere.

    Args:
        values: Dict from task to a dict from metric to its value.
        baselines: Same, of the single-task models. Its metrics are the ones
            that count.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.

    Returns:
        The gain, positive where sharing helped.

    Raises:
        ValueError: If a baseline is 0, its value is missing, or a metric's
            direction is unknown.

    Example:

    >>> values = {"left": {"accuracy": 0.99}, "price": {"mae": 2.1}}
    >>> baselines = {"left": {"accuracy": 0.90}, "price": {"mae": 2.0}}
    >>> round(keras_mtl.metrics.delta_m(values, baselines), 6)
    2.5

    References:

    - K.-K. Maninis, I. Radosavovic, I. Kokkinos, "Attentive Single-Tasking of
      Multiple Tasks", CVPR 2019, arXiv:1904.08918.
    """
    gains = []
    for task, of_task in baselines.items():
        missing = [metric for metric in of_task if metric not in values.get(task, {})]
        if missing or not of_task:
            raise ValueError(
                f"`values` should have every metric of the baselines. Received: no {missing} for task '{task}'"
            )
        gains.append(sum(_gain(values[task][m], b, task, m, directions) for m, b in of_task.items()) / len(of_task))
    return 100 * sum(gains) / len(gains)


def _gain(value: float, baseline: float, task: str, metric: str, directions: Mapping[str, str] | None) -> float:
    if not baseline:
        raise ValueError(f"A baseline should not be 0: gains are relative to it. Received: 0 for '{task}' {metric}")
    sign = 1.0 if higher_is_better(metric, directions) else -1.0
    return sign * (value - baseline) / abs(baseline)


@keras.saving.register_keras_serializable(package="keras_mtl")
class DeltaM(keras.metrics.Metric):
    """delta_m against stored single-task baselines, logged during `fit`.

    Given to `compile(delta_m=...)`, it logs `delta_m` and `val_delta_m`, in
    percent, from the tasks' own metrics. It does not depend on task weights,
    so early stopping, checkpoints and searches may choose by it
    (`monitor="val_delta_m", mode="max"`).

    Args:
        baselines: Dict from task to a dict from metric, as named in the logs
            after the task (`"accuracy"`, `"loss"`), to the single-task value.
        directions: Dict from metric to `"max"` or `"min"`, for metrics whose
            name does not tell.
        name: String. Name in the logs. Defaults to `"delta_m"`.

    Raises:
        ValueError: If a baseline is 0 or a metric's direction is unknown; at
            `compile`, if tasks or metrics are missing.

    Example:

    >>> inputs = keras.Input((4,))
    >>> model = keras_mtl.MultiTaskModel(inputs, {"a": keras.layers.Dense(1, kernel_initializer="zeros")(inputs)})
    >>> baselines = keras_mtl.metrics.DeltaM({"a": {"mae": 2.0}})
    >>> model.compile("sgd", loss={"a": "mse"}, metrics={"a": ["mae"]}, delta_m=baselines)
    >>> logs = model.evaluate(np.ones((2, 4)), {"a": np.ones((2, 1))}, return_dict=True, verbose=0)
    >>> float(logs["delta_m"])
    50.0
    """

    def __init__(
        self,
        baselines: Mapping[str, Mapping[str, float]],
        directions: Mapping[str, str] | None = None,
        name: str = "delta_m",
    ) -> None:
        super().__init__(name=name)
        self.baselines = {task: dict(of_task) for task, of_task in baselines.items()}
        self.directions = dict(directions or {})
        # Every value is a gain of 0 over itself: finds what is wrong with the baselines now.
        delta_m(self.baselines, self.baselines, self.directions)
        self._read = dict

    def bind(self, tasks: Sequence[str], sources: Mapping[str, Callable[[], Tensor]]) -> None:
        """Tells the metric where the tasks' values come from. `compile` calls it.

        Args:
            tasks: Tuple of the trained tasks.
            sources: Dict from log name to a function that gives its value.
        """
        absent = [task for task in tasks if task not in self.baselines]
        unknown = [task for task in self.baselines if task not in tasks]
        if absent or unknown:
            raise ValueError(
                f"`baselines` should have the tasks {tuple(tasks)}. Received: {list(self.baselines)}; "
                f"missing: {absent}, unknown: {unknown}"
            )
        for task, of_task in self.baselines.items():
            for metric in of_task:
                if f"{task}_{metric}" not in sources:
                    raise ValueError(
                        f"`baselines` of task '{task}' should name metrics that are logged. Received: {metric!r}; "
                        f"logs: {sorted(sources)}"
                    )
        self._read = lambda: {
            task: {metric: sources[f"{task}_{metric}"]() for metric in of_task}
            for task, of_task in self.baselines.items()
        }

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the tasks' metrics hold the state."""

    def result(self) -> Tensor:
        return ops.cast(delta_m(self._read(), self.baselines, self.directions), "float32")

    def get_config(self) -> dict[str, Any]:
        return {"baselines": self.baselines, "directions": self.directions, "name": self.name}
