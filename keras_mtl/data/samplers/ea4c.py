"""EA4C: a policy that learns which task to train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.samplers._active import TargetSampler, one_hot, uniform
from keras_mtl.data.samplers._meta_policy import MetaPolicy

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class EA4C(TargetSampler):
    """Which task comes next is a reinforcement-learning problem of its own.

    An actor-critic with an LSTM sees the share of steps that each task has
    had, its own last probabilities, and which task came last. Choosing task
    `j` pays

    `r = weight * (1 - q_j) + (1 - weight) * mean of min(q_k, 1) over the worst tasks`,

    with `q_k` the mean of the task's last `window` results over its target: it
    pays to train what is bad, and to bring up what is worst.

    Args:
        targets: Dict from task to the target of its log, above 0: what a
            single-task model reaches, say.
        monitor: String with `{task}` in it: the log. Defaults to
            `"{task}_accuracy"`, read after every step.
        window: Integer. Defaults to `10`.
        weight: Float from 0 to 1. Defaults to `0.5`.
        worst: Integer. How many tasks the second part looks at. Defaults to
            `None`: half of them.
        units: Integer. Of the LSTM. Defaults to `32`.
        learning_rate: Float. Of the policy. Defaults to `3e-3`.
        horizon: Integer. Steps between two updates of the policy. Defaults to
            `20`.
        seed: Integer. Of the policy's first weights. Defaults to `0`.
        minimum: Float. No task is less likely than this. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is out of its range or a task has no target.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 100})
    >>> sampler = keras_mtl.data.EA4C({"a": 1.0, "b": 1.0})
    >>> sampler.prepare(stats)
    >>> sampler.probabilities(0, stats)  # until every task has a result
    array([0.5, 0.5])

    Reference:

    - Sharma, Jha, Hegde and Ravindran, "Learning to Multi-Task by Active
      Sampling", ICLR 2018.

    Deviations: a step of the optimizer and its batch stand for an episode and
    its score; sizes and rates of the policy, and Adam, are ours. For logs that
    should be small, `q_k` is the target over the mean. Results that arrive
    together, with `steps_per_execution` above 1, count as those of one
    decision. `minimum` is ours.
    """

    def __init__(
        self,
        targets: Mapping[str, float],
        monitor: str = "{task}_accuracy",
        window: int = 10,
        weight: float = 0.5,
        worst: int | None = None,
        units: int = 32,
        learning_rate: float = 3e-3,
        horizon: int = 20,
        seed: int = 0,
        minimum: float = 0.0,
    ) -> None:
        super().__init__(targets, monitor, window, minimum)
        if not 0 <= weight <= 1:
            raise ValueError(f"`weight` should be from 0 to 1. Received: weight={weight}")
        if worst is not None and not 1 <= worst <= len(self.targets):
            raise ValueError(f"`worst` should be from 1 to the number of tasks. Received: worst={worst}")
        self.weight = weight
        self.worst = worst or max(1, len(self.targets) // 2)
        self.units = units
        self.learning_rate = learning_rate
        self.horizon = horizon
        self.seed = seed
        self._last = None

    def prepare(self, stats: TaskStats) -> None:
        super().prepare(stats)
        tasks = len(stats.tasks)
        self.policy = MetaPolicy(3 * tasks, tasks, self.units, self.learning_rate, self.horizon, self.seed)
        self._current, self._open, self._last = uniform(tasks), False, 0

    def reward(self, task: int, stats: TaskStats) -> float:
        """What training a task has paid, given the results so far."""
        reached = self.performance(stats)
        lowest = np.sort(np.clip(reached, 0.0, 1.0))[: self.worst]
        return self.weight * (1.0 - reached[task]) + (1.0 - self.weight) * lowest.mean()

    def observe(self, task: int, stats: TaskStats) -> None:
        if self._open:
            self.policy.learn(task, self.reward(task, stats))
            self._open, self._last = False, int(task)

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        del step
        tasks = len(stats.tasks)
        if np.isnan(self.performance(stats)).any():
            return uniform(tasks)
        if not self._open:
            share = stats.trained / max(stats.trained.sum(), 1)
            self._current = self.policy.act(np.concatenate([share, self._current, one_hot(self._last, tasks)]))  # type: ignore[arg-type]
            self._open = True
        return self.with_minimum(self._current)

    def get_state(self) -> dict[str, Any]:
        return {
            "policy": self.policy.get_state(),
            "current": self._current.tolist(),
            "open": self._open,
            "last": self._last,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.policy.set_state(state["policy"])
        self._current = np.array(state["current"])
        self._open, self._last = state["open"], state["last"]
