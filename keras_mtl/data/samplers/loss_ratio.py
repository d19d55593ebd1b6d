"""Sampling by the ratio of the loss to its first value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.data.samplers._active import ActiveSampler, uniform

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class LossRatio(ActiveSampler):
    """Tasks whose loss has fallen least come most often.

    `p_k ∝ (L_k / L_k(0))^power`, with the mean `L_k` of the task's last `window`
    losses and its first one. Ratios, unlike losses, can be compared between
    tasks of different scale. Until every task has a result, all are alike.

    Args:
        power: Float. 0 is uniform. Defaults to `1.0`.
        monitor: String with `{task}` in it: a log above 0 that should become
            small. Defaults to `"{task}_loss"`, read after every step.
        window: Integer. Defaults to `10`.
        minimum: Float. No task is less likely than this. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 100})
    >>> for loss in (2.0, 1.5):
    ...     stats.add("a_loss", loss)
    >>> for loss in (40.0, 10.0):
    ...     stats.add("b_loss", loss)
    >>> keras_mtl.data.LossRatio(window=1).probabilities(4, stats)  # 3 / 4 : 1 / 4
    array([0.75, 0.25])

    Reference:

    - Chen, Badrinarayanan, Lee and Rabinovich, "GradNorm", ICML 2018, whose
      relative training rate is this ratio over its mean. There it sets
      gradient norms; to draw tasks by it is ours.
    """

    def __init__(
        self, power: float = 1.0, monitor: str = "{task}_loss", window: int = 10, minimum: float = 0.0
    ) -> None:
        super().__init__(monitor, window, minimum)
        if not power >= 0:
            raise ValueError(f"`power` should be at least 0. Received: power={power}")
        self.power = power

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        now = stats.of_tasks(self.monitor, self.window)
        start = np.array([stats.first(self.monitor.format(task=task)) for task in stats.tasks])
        if np.isnan(now).any():
            return uniform(len(now))
        ratios = np.maximum(now / np.maximum(start, 1e-12), 1e-12) ** self.power
        return self.with_minimum(ratios / ratios.sum())
