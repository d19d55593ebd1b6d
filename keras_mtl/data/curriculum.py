"""Curricula over tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_mtl._checks import check_boolean, is_integer
from keras_mtl._types import Tasks
from keras_mtl.data._chooser import checked
from keras_mtl.data.samplers._registry import get_sampler
from keras_mtl.data.samplers.base import Sampler

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class Curriculum(Sampler):
    """Releases tasks in order; those not released are not drawn.

    Among the released tasks another sampler goes on as it would, its
    probabilities brought to 1 in sum.

    Args:
        order: Which task comes first: a list of tasks, by hand, where a tuple
            of tasks is released at once; or a dict from task to its
            difficulty, easiest first, such as final losses of single-task
            models or `-keras_mtl.data.learning_speed(...)` of their losses; or
            `"learning_speed"`: all tasks train for `warmup_epochs` epochs, and the
            one whose loss fell most comes first.
        epochs: Integer. Epochs between two releases. Defaults to `1`.
        sampler: As for `mix`. Defaults to `"uniform"`.
        reverse: Boolean. The other way round, as a control: what an order
            gains, its reverse should not. Defaults to `False`.
        warmup_epochs: Integer. With `"learning_speed"`. Defaults to `1`.

    Raises:
        ValueError: If an argument is out of its range, or tasks are missing or
            unknown.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"hard": 100, "easy": 100}, steps_per_epoch=10)
    >>> curriculum = keras_mtl.data.Curriculum({"hard": 0.9, "easy": 0.1}, epochs=2)
    >>> curriculum.prepare(stats)
    >>> curriculum.probabilities(19, stats), curriculum.probabilities(20, stats)
    (array([0., 1.]), array([0.5, 0.5]))

    Reference:

    - Bengio, Louradour, Collobert and Weston, "Curriculum Learning", ICML
      2009, for examples; here tasks take their place.
    """

    def __init__(
        self,
        order: str | Sequence[str] | Sequence[Sequence[str]],
        epochs: int = 1,
        sampler: str | Mapping[str, float] | Sampler = "uniform",
        reverse: bool = False,
        warmup_epochs: int = 1,
    ) -> None:
        if not isinstance(order, (list, tuple, dict)) and order != "learning_speed":
            raise ValueError(
                "`order` should be a list of tasks, a dict from task to difficulty, or 'learning_speed'. "
                f"Received: order={order!r}"
            )
        for name, value in (("epochs", epochs), ("warmup_epochs", warmup_epochs)):
            if not is_integer(value) or value < 1:
                raise ValueError(f"`{name}` should be an integer of at least 1. Received: {name}={value!r}")
        if isinstance(order, dict):
            order = sorted(order, key=order.__getitem__)
        self.epochs = epochs
        self.sampler = get_sampler(sampler)
        self.reverse = check_boolean(reverse, "reverse")
        self.warmup_epochs = warmup_epochs if order == "learning_speed" else 0
        self._order = None if order == "learning_speed" else [_as_tuple(tasks) for tasks in order]

    @property
    def reads(self) -> str:  # type: ignore[override]
        inner = getattr(self.sampler, "reads", "stats")
        return "stats" if "stats" in (inner, self._reads_losses) else "step"

    @property
    def _reads_losses(self) -> str:
        return "stats" if self.warmup_epochs else "step"

    def prepare(self, stats: TaskStats) -> None:
        if hasattr(self.sampler, "prepare"):
            self.sampler.prepare(stats)
        if self._order is not None:
            listed = [task for tasks in self._order for task in tasks]
            if sorted(listed) != sorted(stats.tasks):
                raise ValueError(
                    f"`order` should have each of the tasks {list(stats.tasks)} once. Received: {self._order}"
                )

    def order(self, stats: TaskStats) -> list[tuple[str, ...]] | None:
        """The order as a list of tuples of tasks, or `None` while the tasks warm up."""
        if self._order is None:
            losses = {task: [stats.first(f"{task}_loss"), stats.recent(f"{task}_loss", 10)] for task in stats.tasks}
            if stats.steps_per_epoch is None or np.isnan(list(losses.values())).any():
                return None
            speeds = {task: learning_speed(values) for task, values in losses.items()}
            return [(task,) for task in sorted(speeds, key=speeds.__getitem__, reverse=True)]
        return self._order

    def released(self, step: int, stats: TaskStats) -> np.ndarray:
        """Which tasks are released at a step: a boolean array of shape `(K,)`."""
        epoch = step // stats.steps_per_epoch - self.warmup_epochs  # type: ignore[operator]
        if epoch < 0 or (self._order is None and not self._settle(stats)):
            return np.ones(len(stats.tasks), bool)
        order = list(self._order or ())
        order = order[::-1] if self.reverse else order
        free = {task for tasks in order[: 1 + epoch // self.epochs] for task in tasks}
        return np.array([task in free for task in stats.tasks])

    def _settle(self, stats: TaskStats) -> bool:
        """Fixes the order by learning speed, once."""
        self._order = self.order(stats)
        return self._order is not None

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        inner = checked(self.sampler.probabilities(step, stats), stats.tasks, self.sampler)
        released = self.released(step, stats)
        kept = np.where(released, inner, 0.0)
        return kept / kept.sum() if kept.sum() > 0 else released / released.sum()

    def observe(self, task: int, stats: TaskStats) -> None:
        if hasattr(self.sampler, "observe"):
            self.sampler.observe(task, stats)

    def monitors(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return self.sampler.monitors(tasks) if hasattr(self.sampler, "monitors") else ()

    def get_state(self) -> dict[str, Any]:
        inner = self.sampler.get_state() if hasattr(self.sampler, "get_state") else {}
        return {"order": self._order, "sampler": inner}

    def set_state(self, state: Mapping[str, Any]) -> None:
        if state["order"] is not None:
            self._order = [tuple(tasks) for tasks in state["order"]]
        if hasattr(self.sampler, "set_state"):
            self.sampler.set_state(state["sampler"])


def learning_speed(losses: npt.ArrayLike) -> float:
    """How fast a loss falls: its mean relative fall over the epochs.

    `1 - mean_e(L(e) / L(0))` over the epochs after the first value: near 1
    where the loss is gone at once, 0 where nothing is learned.

    Args:
        losses: Sequence of losses above 0, such as
            `history.history["a_loss"]` of a single-task model.

    Returns:
        Float.

    Example:

    >>> keras_mtl.data.learning_speed([2.0, 1.0, 0.5])
    0.625
    """
    losses = np.asarray(losses, "float64")
    if losses.ndim != 1 or len(losses) < 2 or not losses[0] > 0:
        raise ValueError(f"`losses` should be two numbers or more, the first above 0. Received: losses={losses}")
    return float(1.0 - np.mean(losses[1:] / losses[0]))


def _as_tuple(tasks: Tasks) -> tuple[Any, ...]:
    return tuple(tasks) if isinstance(tasks, (list, tuple)) else (tasks,)
