"""An objective that does not depend on task weights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import keras_tuner


class WeightFreeObjective(keras_tuner.Objective):
    """A `keras_tuner.Objective` computed from the logs of the tasks' metrics.

    More is better. Made by `keras_mtl.tuning.objective`.

    Args:
        name: String. Name of the objective in logs and trials. Where the model
            logs it itself, that value counts.
        metrics: Dict from task to a list of its metrics.
        score: Function of a dict from task to a dict from metric to value.
        prefix: String. What the logs' names begin with.
    """

    def __init__(
        self,
        name: str,
        metrics: Mapping[str, Collection[str]],
        score: Callable[[dict[str, dict[str, float]]], float],
        prefix: str,
    ) -> None:
        super().__init__(prefix + name, "max")
        self.metrics = {task: list(of_task) for task, of_task in metrics.items()}
        self.prefix = prefix
        self._score = score

    def log_of(self, task: str, metric: str) -> str:
        """Name of the log of a task's metric."""
        return f"{self.prefix}{task}_{metric}"

    def has_value(self, logs: Mapping[str, Any]) -> bool:
        wanted = [self.log_of(task, metric) for task, of_task in self.metrics.items() for metric in of_task]
        return self.name in logs or all(log in logs for log in wanted)

    def get_value(self, logs: Mapping[str, Any]) -> float:
        if self.name in logs:
            return logs[self.name]
        if not self.has_value(logs):
            wanted = [self.log_of(task, metric) for task, of_task in self.metrics.items() for metric in of_task]
            raise keras_tuner.errors.FatalValueError(
                f"The logs should have {[log for log in wanted if log not in logs]} for the objective '{self.name}'. "
                f"Received: {sorted(logs)}. Are the metrics compiled, and is there validation data?"
            )
        return self._score({t: {m: logs[self.log_of(t, m)] for m in of_task} for t, of_task in self.metrics.items()})


class LogObjective(keras.callbacks.Callback):
    """Adds the objective to the logs of an epoch, for early stopping and TensorBoard.

    Args:
        objective: A `WeightFreeObjective`.
    """

    def __init__(self, objective: WeightFreeObjective) -> None:
        super().__init__()
        self.objective = objective

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and self.objective.has_value(logs):
            logs[self.objective.name] = self.objective.get_value(logs)
