"""A candidate network of a grouping: its tasks, their losses and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mtl._types import Tasks


class Network:
    """A network that was trained, or could be.

    Args:
        losses: Dict from task to the network's loss on it; lower is better.
            Its tasks are those of the dict.
        cost: Float above 0. What it costs, in any unit; a full network
            usually costs 1. Defaults to `1.0`.

    Raises:
        ValueError: If there are no tasks, a loss is not finite, or the cost is
            not above 0.

    Example:

    >>> keras_mtl.analysis.Network({"depth": 0.17, "normals": 0.09}).tasks
    ('depth', 'normals')
    """

    def __init__(self, losses: Mapping[str, float], cost: float = 1.0) -> None:
        if not isinstance(losses, dict) or not losses:
            raise ValueError(f"`losses` should be a dict from task to loss. Received: losses={losses!r}")
        for task, loss in losses.items():
            if not np.isfinite(loss):
                raise ValueError(f"The loss of task '{task}' should be finite. Received: {loss}")
        if not np.isfinite(cost) or cost <= 0:
            raise ValueError(f"`cost` should be above 0 and finite. Received: cost={cost!r}")
        self.losses = {task: float(loss) for task, loss in losses.items()}
        self.cost = float(cost)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tuple of its tasks."""
        return tuple(self.losses)

    def __repr__(self) -> str:
        return f"Network({self.losses}, cost={self.cost:g})"


class Candidates:
    """Networks to choose from, as arrays.

    Attributes:
        tasks: Tuple of K names.
        member: Boolean array of shape `(N, K)`. Which tasks a network trains.
        losses: Array of shape `(N, K)`. What is minimized; infinite for tasks
            that a network does not have.
        costs: Array of shape `(N,)`.
        names: List of N tuples, the tasks of each; `None` where `member` says
            it all.
    """

    def __init__(
        self, tasks: Tasks, losses: npt.ArrayLike, costs: npt.ArrayLike, names: Sequence[Any] | None = None
    ) -> None:
        self.tasks = tuple(tasks)
        self.losses = np.asarray(losses, "float64")
        self.member = np.isfinite(self.losses)
        self.costs = np.asarray(costs, "float64")
        self.names = names

    def tasks_of(self, place: int) -> tuple[str, ...]:
        """The tasks of a candidate, those among them that need not be solved too."""
        if self.names is not None:
            return self.names[place]
        return tuple(task for task, inside in zip(self.tasks, self.member[place], strict=True) if inside)

    @classmethod
    def of(cls, networks: Sequence[Network], tasks: Tasks | None = None) -> Candidates:
        """Reads a list of networks.

        Args:
            networks: List of `Network`.
            tasks: List of the tasks to solve. Defaults to all that occur.

        Returns:
            `Candidates`.
        """
        networks = list(networks)
        if not networks or not all(isinstance(network, Network) for network in networks):
            raise ValueError(
                "`scores` should be affinities (an `Affinity`, a dict from source to target to value, an array) or a "
                f"list of `Network`. Received: {networks[:3]!r}"
            )
        found = list(dict.fromkeys(task for network in networks for task in network.tasks))
        tasks = found if tasks is None else list(tasks)
        missing = [task for task in tasks if task not in found]
        if missing:
            raise ValueError(f"Every task should be in a candidate. Received: no candidate with task {missing}")
        losses = [[network.losses.get(task, np.inf) for task in tasks] for network in networks]
        return cls(tasks, losses, [n.cost for n in networks], [n.tasks for n in networks])

    def __add__(self, other: Candidates) -> Candidates:
        losses = np.concatenate([self.losses, other.losses])
        return Candidates(self.tasks, losses, np.concatenate([self.costs, other.costs]))

    def check_budget(self, budget: float) -> None:
        """Raises where a budget does not pay for the cheapest network."""
        if not np.isfinite(budget) or budget < self.costs.min() - 1e-9:
            raise ValueError(
                f"`budget` should pay for one network at least: the cheapest costs {self.costs.min():g}. "
                f"Received: budget={budget!r}"
            )
