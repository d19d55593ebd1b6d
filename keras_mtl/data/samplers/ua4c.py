"""UA4C: the tasks as the arms of a bandit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.samplers._active import TargetSampler, one_hot

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class UA4C(TargetSampler):
    """The next task is the arm that a discounted UCB bandit pulls.

    A step with task `k` pays `r = max(0, (t_k - s_k) / t_k)` with the target
    `t_k` and the step's result `s_k`. Sums of payments `X_k` and counts `n_k`
    fade by `discount` at every step, and the next task is the one with the
    largest `x_k + exploration * sqrt(v_k log(sum n) / n_k)`, where
    `x_k = X_k / n_k` and `v_k = max(x_k (1 - x_k), 0.002)`. Tasks without a
    result come first.

    Args:
        targets: Dict from task to the target of its log, above 0: what a
            single-task model reaches, say.
        monitor: String with `{task}` in it: the log. Defaults to
            `"{task}_accuracy"`, read after every step.
        discount: Float in (0, 1]. Defaults to `0.99`.
        exploration: Float. Defaults to `1.0`.
        minimum: Float. No task is less likely than this. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range or a task has no target.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 100})
    >>> sampler = keras_mtl.data.UA4C({"a": 1.0, "b": 1.0})
    >>> sampler.prepare(stats)
    >>> for index, task in enumerate("ab"):
    ...     stats.add(f"{task}_accuracy", 0.9 - 0.4 * index)
    ...     stats.trained[index] += 1
    ...     sampler.observe(index, stats)
    >>> sampler.probabilities(2, stats)
    array([0., 1.])

    References:
        - Sharma, Jha, Hegde and Ravindran, "Learning to Multi-Task by Active
          Sampling", ICLR 2018.
        - Kocsis and Szepesvári, "Discounted UCB", 2nd PASCAL Challenges
          Workshop, 2006, for the bandit.

    Deviations: a step of the optimizer and its batch stand for an episode and
    its score. For logs that should be small, `r = max(0, 1 - t_k / s_k)`.
    `minimum` is ours.
    """

    def __init__(
        self,
        targets: Mapping[str, float],
        monitor: str = "{task}_accuracy",
        discount: float = 0.99,
        exploration: float = 1.0,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(targets, monitor, 1, minimum)
        if not 0 < discount <= 1:
            raise ValueError(f"`discount` should be in (0, 1]. Received: discount={discount}")
        if not exploration >= 0:
            raise ValueError(f"`exploration` should be at least 0. Received: exploration={exploration}")
        self.discount = discount
        self.exploration = exploration
        self._paid = self._count = np.zeros(0)  # until `prepare` knows the tasks

    def prepare(self, stats: TaskStats) -> None:
        super().prepare(stats)
        self._paid, self._count = np.zeros((2, len(stats.tasks)))

    def observe(self, task: int, stats: TaskStats) -> None:
        reward = max(0.0, 1.0 - self.performance(stats)[task])
        if np.isnan(reward):
            return
        self._paid *= self.discount
        self._count *= self.discount
        self._paid[task] += reward
        self._count[task] += 1.0

    def bounds(self) -> np.ndarray:
        """The upper confidence bounds, of shape `(K,)`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = self._paid / self._count
            spread = np.maximum(mean * (1.0 - mean), 0.002)
            total = max(self._count.sum(), 1.0)
            return mean + self.exploration * np.sqrt(spread * np.log(total) / self._count)

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        # Drawn, not trained: results may lag behind.
        unseen = np.where(self._count == 0, stats.counts, np.iinfo("int64").max)
        index = int(np.argmin(unseen)) if np.any(self._count == 0) else int(np.argmax(self.bounds()))
        return self.with_minimum(one_hot(index, len(stats.tasks)))

    def get_state(self) -> dict[str, Any]:
        return {"paid": self._paid.tolist(), "count": self._count.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._paid, self._count = np.array(state["paid"]), np.array(state["count"])
