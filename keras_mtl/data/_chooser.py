"""Drawing which task comes next."""

from __future__ import annotations

import collections
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from keras_mtl.data.samplers.base import Sampler
    from keras_mtl.data.task_stats import TaskStats

AT_ONCE = 2**16  # probabilities of a block: their table stays small, however long an epoch is


class Chooser:
    """The sampler at work: its probabilities, the draws, and the record of both.

    Each draw takes one random number, whatever the sampler, so that a mixture
    draws the same in one block of steps as one by one.

    Args:
        sampler: Object with `probabilities(step, stats)`.
        stats: `TaskStats`.
        seed: Integer.
        ahead: Integer. How many tasks in a row are drawn at once where the
            sampler is live. Defaults to `1`.
    """

    def __init__(self, sampler: Sampler, stats: TaskStats, seed: int, ahead: int = 1) -> None:
        self.sampler = sampler
        self.stats = stats
        self.ahead = ahead
        self.step = 0
        self._rng = np.random.default_rng(seed)
        # Draws come from the thread of the data pipeline, results from the one that trains.
        self.lock = threading.Lock()
        self._records = collections.deque()

    @property
    def live(self) -> bool:
        """Whether the probabilities depend on how training goes."""
        return getattr(self.sampler, "reads", "stats") == "stats"

    def next(self) -> int:
        """Draws one task.

        Returns:
            Integer.
        """
        with self.lock:
            return self._draw(self.probabilities()[None])[0]

    def block(self) -> np.ndarray:
        """Draws tasks for steps in a row: of one epoch, or, where the sampler is live, `ahead`.

        A long epoch comes in several blocks.

        Returns:
            Integer array of shape `(steps,)`.
        """
        if self.live:
            return np.array([self.next() for _ in range(self.ahead)])
        with self.lock:
            of_epoch = self.stats.steps_per_epoch
            steps = min(max(AT_ONCE // len(self.stats.tasks), 1), of_epoch - self.step % of_epoch)  # type: ignore[operator]
            if self.sampler.reads == "nothing":
                rows = np.broadcast_to(self.probabilities(), (steps, len(self.stats.tasks)))
            else:
                rows = np.stack([self.probabilities(later) for later in range(steps)])
            return self._draw(rows)

    def _draw(self, rows: np.ndarray) -> np.ndarray:
        drawn = _drawn(rows, self._rng.random(len(rows)))
        counts = np.bincount(drawn, minlength=len(self.stats.tasks))
        self.stats.counts += counts
        self.step += len(rows)
        self._records.append((counts, rows.sum(axis=0), len(rows)))
        return drawn

    def probabilities(self, later: int = 0) -> np.ndarray:
        """The sampler's probabilities so many steps later, checked, as an array of shape `(K,)`."""
        tasks = self.stats.tasks
        return checked(self.sampler.probabilities(self.step + later, self.stats), tasks, self.sampler)

    def observe(self, task: int) -> None:
        """Tells the sampler that a step with a task has reported back."""
        with self.lock:
            self.stats.trained[task] += 1
            observe = getattr(self.sampler, "observe", None)
            if observe is not None:
                observe(task, self.stats)

    def take_record(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What was drawn in an epoch, once it is over.

        Returns:
            Counts and mean probabilities, two arrays of shape `(K,)`, or
            `None` where nothing was drawn.
        """
        with self.lock:
            if not self._records:
                return None
            counts, probabilities, steps = self._records.popleft()
            # Draws may be ahead of training: what is left belongs to the next epoch.
            while self._records and steps < self.stats.steps_per_epoch:
                more = self._records.popleft()
                counts, probabilities, steps = counts + more[0], probabilities + more[1], steps + more[2]
            return counts, probabilities / steps

    def get_state(self) -> dict[str, Any]:
        """What `set_state` takes, fit for JSON."""
        state = getattr(self.sampler, "get_state", dict)
        return {
            "step": self.step,
            "random": self._rng.bit_generator.state,
            "stats": self.stats.get_state(),
            "sampler": state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to an earlier state."""
        with self.lock:
            self.step = state["step"]
            self._rng.bit_generator.state = state["random"]
            self.stats.set_state(state["stats"])
            if hasattr(self.sampler, "set_state"):
                self.sampler.set_state(state["sampler"])
            self._records.clear()


def checked(probabilities: npt.ArrayLike | Mapping[str, float], tasks: Sequence[str], sampler: Sampler) -> np.ndarray:
    """Probabilities as an array, or an error that says what is wrong with them."""
    name = sampler if isinstance(sampler, str) else type(sampler).__name__
    given = probabilities
    if isinstance(probabilities, dict):
        if set(probabilities) != set(tasks):
            raise ValueError(
                f"The probabilities of {name} should be of the tasks {list(tasks)}. Received: {list(probabilities)}"
            )
        probabilities = [probabilities[task] for task in tasks]
    values = np.asarray(probabilities, "float64")
    if values.shape != (len(tasks),) or not np.all(values >= 0) or not abs(values.sum() - 1.0) < 1e-5:
        total = f", which sum to {values.sum():.6g}" if values.shape == (len(tasks),) else ""
        raise ValueError(
            f"The probabilities of {name} should be {len(tasks)} numbers, one for each of the tasks {list(tasks)}, "
            f"at least 0 and 1 in sum. Received: {given!r}{total}"
        )
    return values / values.sum()


def _drawn(rows: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One task for each row of probabilities and each number in [0, 1)."""
    edges = np.cumsum(rows, axis=1)
    # The last edge is exactly 1, so that rounding leaves no gap; tasks of probability 0 have no room between edges.
    edges /= edges[:, -1:]
    return np.sum(uniform[:, None] >= edges, axis=1).astype("int64")
