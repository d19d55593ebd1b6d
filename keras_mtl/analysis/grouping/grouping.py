"""A grouping: which networks to train, and which of them serves each task."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._files import read_json, readable, whole_file
from keras_mtl._tables import table_text

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.network import Network


class Grouping:
    """Groups of tasks, one for each network.

    Args:
        groups: List of groups, each a list of tasks. A task may be in several.
        serves: Dict from task to the place of the group whose network serves
            it; tasks that are left out only help. Defaults to `None`: every
            task by the first group that it is in.
        costs: List of the networks' costs. Defaults to `None`: 1 each.
        scores: Dict from task to what it was expected to get. Defaults to
            `None`.
        budget: Float. What there was to spend. Defaults to the groups' cost.
        objective: Float. What was minimized or maximized. Defaults to `None`.
        method: String. How the groups were found. Defaults to `"given"`.
        exact: Boolean. Whether no better choice exists, by the scores that
            were given. Defaults to `False`.

    Raises:
        ValueError: If there are no groups, one is empty or repeats a task, or
            a task is served by a group that it is not in.

    Example:

    >>> grouping = keras_mtl.analysis.Grouping([["a", "b"], ["b", "c"]])
    >>> grouping.tasks
    ('a', 'b', 'c')
    >>> grouping.served(1)
    ('c',)
    """

    def __init__(
        self,
        groups: Sequence[Sequence[str]],
        serves: Mapping[str, int] | None = None,
        costs: Sequence[float] | None = None,
        scores: Mapping[str, float] | None = None,
        budget: float | None = None,
        objective: float | None = None,
        method: str = "given",
        exact: bool = False,
    ) -> None:
        self.groups = tuple(_group(group) for group in groups)
        if not self.groups:
            raise ValueError("`groups` should hold at least one group. Received: none")
        if serves is None:
            serves = {task: place for place, group in reversed([*enumerate(self.groups)]) for task in reversed(group)}
            serves = dict(reversed(serves.items()))
        self.serves = {task: int(place) for task, place in serves.items()}
        self.tasks = tuple(self.serves)
        for task, place in self.serves.items():
            if not 0 <= place < len(self.groups) or task not in self.groups[place]:
                raise ValueError(f"Task '{task}' should be served by a group that it is in. Received: group {place}")
        self.costs = tuple(float(cost) for cost in (costs or [1.0] * len(self.groups)))
        if len(self.costs) != len(self.groups):
            raise ValueError(f"`costs` should be one for each of {len(self.groups)} groups. Received: {self.costs}")
        self.scores = None if scores is None else {task: float(scores[task]) for task in self.tasks}
        self.budget = self.cost if budget is None else float(budget)
        self.objective = objective
        self.method = method
        self.exact = check_boolean(exact, "exact")

    @property
    def cost(self) -> float:
        """What the networks cost together."""
        return sum(self.costs)

    def served(self, place: int) -> tuple[str, ...]:
        """The tasks that the network of a group serves, as a tuple."""
        return tuple(task for task in self.groups[place] if self.serves.get(task) == place)

    def evaluate(self, networks: Sequence[Network], reassign: bool = False) -> dict[str, float]:
        """What the tasks get from the chosen networks by other measurements.

        Args:
            networks: List of `Network` with one of the tasks and the cost of
                each chosen group: losses on test data, say.
            reassign: Boolean. Whether each task is served by whichever chosen
                network is best for it in `networks`, as when networks were
                chosen by what they did early in training. Defaults to `False`.

        Returns:
            Dict from task to loss.
        """
        check_boolean(reassign, "reassign")
        known = {(frozenset(network.tasks), round(network.cost, 9)): network for network in networks}
        chosen = []
        for group, cost in zip(self.groups, self.costs, strict=True):
            if (frozenset(group), round(cost, 9)) not in known:
                raise ValueError(f"`networks` should have one of tasks {group} and cost {cost:g}. Received: none")
            chosen.append(known[frozenset(group), round(cost, 9)])
        if reassign:
            return {task: min(n.losses[task] for n in chosen if task in n.losses) for task in self.tasks}
        return {task: chosen[place].losses[task] for task, place in self.serves.items()}

    def shuffled(self, seed: int | None = None) -> Grouping:
        """Groups of the same sizes and costs, with the tasks drawn at random.

        Args:
            seed: Integer. Defaults to `None`: NumPy's global state, which
                `keras.utils.set_random_seed` sets.

        Returns:
            A `Grouping`.
        """
        order = (np.random if seed is None else np.random.default_rng(seed)).permutation(len(self.tasks))
        other = {task: self.tasks[place] for task, place in zip(self.tasks, order, strict=True)}
        groups = [[other.get(task, task) for task in group] for group in self.groups]
        serves = {other[task]: place for task, place in self.serves.items()}
        return Grouping(groups, serves, self.costs, budget=self.budget, method="random")

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible values."""
        content = {name: getattr(self, name) for name in ("serves", "scores", "budget", "objective", "method", "exact")}
        return {"groups": [list(group) for group in self.groups], "costs": list(self.costs), **content}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Makes what `to_dict` was made from."""
        return cls(**content)

    def save(self, path: str | os.PathLike) -> None:
        """Writes it to a JSON file."""
        with whole_file(path) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Reads what `save` wrote.

        Raises:
            ValueError: If the file is damaged or holds something else.
        """
        with readable(path, "a grouping"):
            return cls.from_dict(read_json(pathlib.Path(path), {"groups": list, "costs": list, "serves": dict}))

    def __str__(self) -> str:
        header, rows = ["network", "cost", "serves", "trained with"], []
        for place, (group, cost) in enumerate(zip(self.groups, self.costs, strict=True)):
            served = self.served(place)
            helpers = ", ".join(task for task in group if task not in served)
            rows.append([str(place + 1), f"{cost:g}", ", ".join(served), helpers])
        how = f"{self.method}{', exact' if self.exact else ''}"
        value = "" if self.objective is None else f", objective {self.objective:.5g}"
        table = table_text(header, rows, left=["network", "serves", "trained with"])
        return f"{table}Cost {self.cost:g} of {self.budget:g}{value} ({how})."

    def __repr__(self) -> str:
        return f"Grouping({[list(group) for group in self.groups]}, method={self.method!r})"


def _group(group: Sequence[str]) -> tuple[str, ...]:
    group = tuple(group) if isinstance(group, (list, tuple, set, frozenset)) else ()
    if not group or len(set(group)) != len(group) or not all(isinstance(task, str) for task in group):
        raise ValueError(f"A group should be a list of tasks, each once. Received: {group!r}")
    return group
