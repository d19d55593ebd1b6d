"""Static task weights that change from epoch to epoch."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_mtl.callbacks._copied import CopiedCallback


class WeightSchedule(CopiedCallback):
    """Sets static task weights at the start of each epoch.

    The change holds from the next step on, without recompiling.

    Args:
        schedule: Dict from task to a function that takes the epoch (from 0)
            and returns the task's weight. Other tasks keep theirs.

    Raises:
        ValueError: When training begins, if a task is unknown; at an epoch, if
            a weight is negative or not finite.

    Example:

    >>> schedule = keras_mtl.callbacks.WeightSchedule({"aux": lambda epoch: 0.5**epoch})
    """

    def __init__(self, schedule: Mapping[str, Callable[[int], float]]) -> None:
        super().__init__()
        self.schedule = dict(schedule)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        unknown = [task for task in self.schedule if task not in self.model.compiled_tasks.tasks]
        if unknown:
            raise ValueError(
                f"`schedule` should name trained tasks: {self.model.compiled_tasks.tasks}. Received: {unknown}"
            )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.model.set_task_weights({task: float(weight(epoch)) for task, weight in self.schedule.items()})
