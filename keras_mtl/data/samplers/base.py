"""The base class of samplers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class Sampler:
    """Says how likely each task comes next.

    A sampler of one's own is a subclass, or any object with a method
    `probabilities(step, stats)`.

    Attributes:
        reads: What the probabilities depend on: `"nothing"`, `"step"`, or
            `"stats"`. The first two are drawn for a whole epoch ahead;
            `"stats"` means that they are asked for at every step, as late as
            can be. Objects without the attribute count as `"stats"`.

    Example:

    >>> class SmallestLossLast(keras_mtl.data.Sampler):
    ...     def probabilities(self, step, stats):
    ...         losses = stats.of_tasks("{task}_loss", window=10)
    ...         if np.isnan(losses).any():  # no result yet
    ...             return [1 / len(losses)] * len(losses)
    ...         return losses / losses.sum()
    >>> stats = keras_mtl.data.TaskStats({"a": 100, "b": 10})
    >>> SmallestLossLast().probabilities(0, stats)
    [0.5, 0.5]
    """

    reads = "stats"

    def prepare(self, stats: TaskStats) -> None:
        """Is told the tasks, once, when the mixture is made; the place for checks.

        Args:
            stats: `TaskStats` of the mixture.
        """

    def probabilities(self, step: int, stats: TaskStats) -> npt.ArrayLike | Mapping[str, float]:
        """How likely each task comes next.

        Args:
            step: Integer. How many tasks the mixture has drawn before.
            stats: `TaskStats`.

        Returns:
            K numbers in the order of `stats.tasks`, or a dict from task to
            number: at least 0, and 1 in sum.
        """
        raise NotImplementedError

    def rates(self, stats: TaskStats) -> npt.ArrayLike | Mapping[str, float] | None:
        """Probabilities in the long run, by which an epoch is measured.

        Args:
            stats: `TaskStats`.

        Returns:
            As `probabilities`, or `None` where nobody knows: then an epoch is
            a number of steps.
        """
        return self.probabilities(0, stats) if self.reads == "nothing" else None

    def observe(self, task: int, stats: TaskStats) -> None:
        """Is told that the results of a step are in `stats`.

        Args:
            task: Integer. Index of the task that was trained.
            stats: `TaskStats`.
        """

    def monitors(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Names of the logs that the sampler reads, for an early error where one is not there."""
        del tasks
        return ()

    def get_state(self) -> dict[str, Any]:
        """State as a dict fit for JSON, for a mixture's position."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to an earlier state."""
