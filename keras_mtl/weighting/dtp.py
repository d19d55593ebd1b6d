"""Dynamic task prioritization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("dtp")
class DTP(Weighting):
    r"""Puts hard tasks first, as told by a metric in (0, 1).

    With `c_k` the moving average of task `k`'s metric over epochs, the weight is

    ```math
    w_k = -(1 - c_k)^\gamma \log c_k
    ```

    0 for a task that is solved, and growing as the metric falls. Before the first epoch ends all
    weights are 1.

    Scale: free; 0.35 for a metric of 0.5 and `gamma=1`. When all tasks do
    well all weights are small, and the learning rate in effect with them.

    Args:
        kpi: String or dict `{task: string}`. Name of the metric, as it ends
            the log `<task>_<kpi>`; its values should be in [0, 1], higher
            being better. Defaults to `"accuracy"`.
        gamma: Float. How strongly easy tasks are played down. Defaults to
            `1.0`.
        ema: Float in (0, 1]. Share of the newest epoch in `c`. Defaults to
            `0.5`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If an argument is out of its range, or, at the end of an
            epoch, if the log of a task is missing.

    Example:

    >>> weighting = keras_mtl.weighting.DTP()
    >>> weighting.set_tasks(["left", "right"], ["classification"] * 2)
    >>> weighting.build((2,))
    >>> weighting.update(np.ones(2), np.ones(2), np.ones(2))
    >>> weighting.end_epoch({"left_accuracy": 0.5, "right_accuracy": 0.9})
    >>> weighting([1.0, 1.0]).numpy().round(4).tolist()
    [0.3466, 0.0105]

    References:
        - Guo, Haque, Huang, Yeung and Fei-Fei, "Dynamic task prioritization
          for multitask learning", ECCV 2018.

    Deviations: the paper's focal weights of examples within a task are left
    to the task's loss. The average starts at the first epoch's metric. The
    metric is kept within [0.01, 1]. A task without a labelled example in an
    epoch keeps its average.
    """

    def __init__(
        self, kpi: str | Mapping[str, str] = "accuracy", gamma: float = 1.0, ema: float = 0.5, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self.kpi = kpi
        self.gamma = check_number(gamma, "gamma", least=0)
        self.ema = check_number(ema, "ema", above=0, most=1)
        self._tasks = None

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        del kinds
        if isinstance(self.kpi, dict) and set(self.kpi) != set(tasks):
            raise ValueError(f"`kpi` should have a metric for each of {list(tasks)}. Received: kpi={self.kpi}")
        self._tasks = [str(task) for task in tasks]

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        shape = (self.num_tasks,)
        self.average = self.add_state("average", shape)
        self.epochs = self.add_state("epochs", shape)
        self.batches = self.add_state("batches", shape)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        average = ops.clip(self.average.value, 0.01, 1.0)
        focal = -ops.power(1.0 - average, self.gamma) * ops.log(average)
        return ops.where(self.epochs.value > 0, focal, 1.0) * present

    def update(self, losses: Tensor, present: Tensor, weights: Tensor, gramian: Tensor | None = None) -> None:
        del losses, weights, gramian
        self.batches.assign_add(present)

    def end_epoch(self, logs: Mapping[str, Any] | None = None) -> None:
        newest = np.array(self._read(logs or {}), dtype="float32")
        seen = self.batches > 0
        mixed = self.ema * newest + (1 - self.ema) * self.average
        mixed = ops.where(self.epochs.value > 0, mixed, newest)
        self.average.assign(ops.where(seen, mixed, self.average.value))
        self.epochs.assign_add(ops.cast(seen, "float32"))
        self.batches.assign(ops.zeros_like(self.batches.value))

    def _read(self, logs: Mapping[str, Any]) -> Tensor:
        if self._tasks is None:
            raise ValueError("DTP reads one log per task and should be told their names: call `set_tasks` first.")
        values = []
        for task in self._tasks:
            log = f"{task}_{self.kpi[task] if isinstance(self.kpi, dict) else self.kpi}"
            if log not in logs:
                raise ValueError(
                    f"`kpi` should name a metric of every task: no log {log!r} for task {task!r}; compile the metric "
                    f"for it or change `kpi`. Received: kpi={self.kpi!r}, logs {sorted(logs)}"
                )
            values.append(float(logs[log]))
        return values

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kpi": self.kpi, "gamma": self.gamma, "ema": self.ema}
