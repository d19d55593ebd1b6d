"""Dynamic task prioritization: hard tasks first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.samplers._active import ActiveSampler, uniform

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class DynamicTaskPrioritization(ActiveSampler):
    """Tasks come by the focal weight of a metric in (0, 1).

    `p_k ∝ -(1 - c_k)^gamma log(c_k)` with the moving average
    `c_k ← ema * newest + (1 - ema) * c_k` of the task's metric: 0 for a task
    that is solved, and growing as the metric falls. Until every task has a
    result, all are alike. `keras_mtl.weighting.DTP` sets task weights by the
    same rule.

    Args:
        monitor: String with `{task}` in it: a log in [0, 1], higher being
            better. Defaults to `"{task}_accuracy"`, read after every step.
        gamma: Float. How strongly easy tasks are played down. Defaults to
            `1.0`.
        ema: Float in (0, 1]. Share of the newest result. Defaults to `0.1`.
        minimum: Float. No task is less likely than this. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 100})
    >>> sampler = keras_mtl.data.DynamicTaskPrioritization()
    >>> sampler.prepare(stats)
    >>> for index, (task, accuracy) in enumerate({"a": 0.5, "b": 0.9}.items()):
    ...     stats.add(f"{task}_accuracy", accuracy)
    ...     sampler.observe(index, stats)
    >>> sampler.probabilities(2, stats).round(4)  # 0.5 log 2 : 0.1 log(10 / 9)
    array([0.9705, 0.0295])

    Reference:

    - Guo, Haque, Huang, Yeung and Fei-Fei, "Dynamic task prioritization for
      multitask learning", ECCV 2018.

    Deviations: the paper weighs losses; here the weights are probabilities,
    and the average moves with every step that has a result. The metric is
    kept within [0.01, 1]. `minimum` is ours.
    """

    def __init__(
        self, monitor: str = "{task}_accuracy", gamma: float = 1.0, ema: float = 0.1, minimum: float = 0.0
    ) -> None:
        super().__init__(monitor, 1, minimum)
        if not gamma >= 0:
            raise ValueError(f"`gamma` should be at least 0. Received: gamma={gamma}")
        if not 0 < ema <= 1:
            raise ValueError(f"`ema` should be in (0, 1]. Received: ema={ema}")
        self.gamma = gamma
        self.ema = ema

    def prepare(self, stats: TaskStats) -> None:
        super().prepare(stats)
        self._average = np.full(len(stats.tasks), np.nan)

    def observe(self, task: int, stats: TaskStats) -> None:
        newest = stats.recent(self.monitor.format(task=stats.tasks[task]))
        before = self._average[task]
        self._average[task] = newest if np.isnan(before) else self.ema * newest + (1 - self.ema) * before

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        average = np.clip(self._average, 0.01, 1.0)
        focal = -((1.0 - average) ** self.gamma) * np.log(average)
        if np.isnan(focal).any() or focal.sum() <= 0:
            return uniform(len(focal))
        return self.with_minimum(focal / focal.sum())

    def get_state(self) -> dict[str, Any]:
        return {"average": [None if np.isnan(value) else float(value) for value in self._average]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._average = np.array([np.nan if value is None else value for value in state["average"]])
