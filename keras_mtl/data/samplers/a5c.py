"""A5C: a softmax of how far tasks are from their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.data.samplers._active import TargetSampler, uniform

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class A5C(TargetSampler):
    """Tasks come the more often the further they are from their targets.

    `p_k ∝ exp(m_k / temperature)` with `m_k = (t_k - a_k) / t_k`, where `t_k`
    is the task's target and `a_k` the mean of its last `window` results. Until
    every task has `window` results, all are alike.

    Args:
        targets: Dict from task to the target of its log, above 0: what a
            single-task model reaches, say.
        monitor: String with `{task}` in it: the log. Defaults to
            `"{task}_accuracy"`, read after every step.
        window: Integer. Defaults to `10`.
        temperature: Float. Small: the worst task nearly always. Defaults to
            `0.05`.
        minimum: Float. No task is less likely than this, so that none that is
            past its target is forgotten. Defaults to `0.0`, as in the paper.

    Raises:
        ValueError: If an argument is out of its range or a task has no target.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 100})
    >>> stats.add("a_accuracy", 0.9), stats.add("b_accuracy", 0.8)
    (None, None)
    >>> stats.trained[:] = 1
    >>> sampler = keras_mtl.data.A5C({"a": 1.0, "b": 1.0}, window=1)
    >>> sampler.probabilities(2, stats).round(3)  # exp(0.1 / 0.05) : exp(0.2 / 0.05)
    array([0.119, 0.881])

    Reference:

    - Sharma, Jha, Hegde and Ravindran, "Learning to Multi-Task by Active
      Sampling", ICLR 2018.

    Deviations: a step of the optimizer and its batch stand for an episode and
    its score. For logs that should be small, `m_k = 1 - t_k / a_k`. The
    uniform beginning ends by itself. `minimum` is ours.
    """

    def __init__(
        self,
        targets: Mapping[str, float],
        monitor: str = "{task}_accuracy",
        window: int = 10,
        temperature: float = 0.05,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(targets, monitor, window, minimum)
        if not temperature > 0:
            raise ValueError(f"`temperature` should be above 0. Received: temperature={temperature}")
        self.temperature = temperature

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        distance = 1.0 - self.performance(stats)
        if np.isnan(distance).any() or np.any(stats.trained < self._needed()):
            return uniform(len(stats.tasks))
        scaled = np.exp((distance - distance.max()) / self.temperature)
        return self.with_minimum(scaled / scaled.sum())

    def _needed(self) -> int:
        # Logs of validation come once an epoch: one value is enough to begin with.
        return 0 if self.monitor.startswith("val_") else self.window
