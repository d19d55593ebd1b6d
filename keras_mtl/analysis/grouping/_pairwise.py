"""Expected performance of a network of several tasks, predicted from pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._types import Tasks
from keras_mtl.analysis.grouping.network import Candidates

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.network import Network

ALL_GROUPS_UP_TO = 14  # tasks; 16,383 groups


class Pairwise:
    """Expected losses of any group of tasks, as means over its pairs.

    The loss of task t in group S is the mean of `values[u, t]` over its mates
    u in S; that of t on its own is `alone[t]`.

    Args:
        tasks: List of K names.
        values: Array of shape `(K, K)`. What is minimized: the loss of t in
            the pair (u, t), or minus the affinity of u on t.
        alone: Array of shape `(K,)`. Infinite where a network of one task is
            out of the question.
        cost: Function from a tuple of tasks to a network's cost. Defaults to
            1 for every network.
    """

    def __init__(
        self, tasks: Sequence[str], values: np.ndarray, alone: np.ndarray, cost: Callable[..., Any] | None = None
    ) -> None:
        self.tasks = tuple(tasks)
        self.values = np.array(values, "float64")
        np.fill_diagonal(self.values, 0.0)
        self.alone = np.asarray(alone, "float64")
        self.cost = cost

    def losses(self, member: np.ndarray) -> np.ndarray:
        """Expected losses of groups.

        Args:
            member: Boolean array of shape `(N, K)`.

        Returns:
            Array of shape `(N, K)`; infinite outside of a group.
        """
        member = np.asarray(member, bool)
        mates = member.sum(axis=1, keepdims=True) - 1
        means = (member.astype("float64") @ self.values) / np.maximum(mates, 1)
        return np.where(member, np.where(mates > 0, means, self.alone), np.inf)

    def costs(self, member: np.ndarray) -> np.ndarray:
        """Costs of groups, an array of shape `(N,)`."""
        if self.cost is None:
            return np.ones(len(member))
        costs = np.array([float(self.cost(self.names(row))) for row in member])
        if not np.all(np.isfinite(costs) & (costs > 0)):
            raise ValueError(f"`cost` should return numbers above 0. Received: {costs[~(costs > 0)][:3].tolist()}")
        return costs

    def names(self, row: np.ndarray) -> tuple[str, ...]:
        """The tasks of one group, as a tuple."""
        return tuple(task for task, inside in zip(self.tasks, row, strict=True) if inside)

    def candidates(self, member: np.ndarray) -> Candidates:
        """Groups as candidates; those that no task can be part of are left out."""
        member = np.asarray(member, bool)
        losses, costs = self.losses(member), self.costs(member)
        possible = np.isfinite(losses).any(axis=1)
        return Candidates(self.tasks, losses[possible], costs[possible])

    def all_groups(self) -> np.ndarray:
        """Every group there is, as a boolean array of shape `(2^K - 1, K)`."""
        count = len(self.tasks)
        return (np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1 > 0


def pairwise_of_networks(
    networks: Sequence[Network], tasks: Tasks | None = None, cost: Callable[..., Any] | None = None
) -> tuple[Pairwise, Candidates]:
    """The higher-order approximation: networks of one and two tasks tell of all.

    Args:
        networks: List of `Network`. Those of more than two tasks are not read.
        tasks: List of tasks. Defaults to all that occur.
        cost: Function from tasks to cost. Defaults to the cost of the dearest
            pair for every larger network.

    Returns:
        Tuple of a `Pairwise`, for groups of three tasks or more, and
        `Candidates`, the networks of one and two tasks as they are.
    """
    small = [network for network in networks if len(network.tasks) <= 2]
    pairs = {frozenset(n.tasks): n for n in small if len(n.tasks) == 2}
    found = list(dict.fromkeys(task for network in networks for task in network.tasks))
    tasks = found if tasks is None else list(tasks)
    missing = [(a, b) for i, a in enumerate(tasks) for b in tasks[i + 1 :] if frozenset((a, b)) not in pairs]
    if missing:
        raise ValueError(
            f"Method 'higher_order' needs a network of every pair of tasks. Received: none of {missing[0]} "
            f"({len(missing)} such pairs)"
        )
    values = np.zeros((len(tasks), len(tasks)))
    for i, mate in enumerate(tasks):
        for j, task in enumerate(tasks):
            if i != j:
                values[i, j] = pairs[frozenset((mate, task))].losses[task]
    alone = np.full(len(tasks), np.inf)  # networks of one task are known, not expected
    dearest = max(pair.cost for pair in pairs.values())
    pairwise = Pairwise(tasks, values, alone, cost or (lambda group: dearest))
    return pairwise, Candidates.of(small, tasks)
