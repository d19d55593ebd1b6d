"""The best networks by an integer program, solved with HiGHS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.network import Candidates

ENTRIES_AT_ONCE = 15_000  # of (network, task); above, the program is built up column by column


def integer(candidates: Candidates, budget: float, overlap: bool = True) -> list[int] | None:
    """Chooses networks with an integer program.

    `min sum_nt L_nt y_nt` with `sum_n y_nt = 1` for every task t,
    `y_nt <= x_n`, `sum_n c_n x_n <= budget` and boolean x: network n is chosen
    where `x_n = 1` and serves task t where `y_nt = 1`.

    With many candidates the linear program is solved over a part of them, and
    those that its prices say could help join, until none can. Then every
    candidate that could still be part of a better choice, by its reduced cost,
    joins the integer program. So the answer is exact (to one part in a million
    of the losses' range) however many candidates there are.

    Args:
        candidates: `Candidates`.
        budget: Float. What the networks may cost together.
        overlap: Boolean. Whether a task may be in several networks.

    Returns:
        List of places of the chosen candidates; `None` if there is no choice.
    """
    scaled = Scaled(candidates, budget)
    if candidates.member.sum() <= ENTRIES_AT_ONCE:
        return scaled.solve(np.arange(len(candidates.costs)), budget, overlap)
    part, lower, prices = relaxed(scaled, budget, overlap, scaled.first_part())
    return finish(scaled, budget, overlap, part, lower, prices)


def relaxed(
    scaled: Scaled, budget: float, overlap: bool, part: np.ndarray
) -> tuple[np.ndarray, float, tuple[np.ndarray, float]]:
    """Solves the linear program over all candidates, through a growing part.

    Returns:
        Tuple of the part, the optimum, and the prices at it.
    """
    while True:
        value, prices = scaled.relax(part, budget, overlap)
        reduced = scaled.reduced_costs(prices, overlap)
        reduced[part] = 0.0
        if reduced.min() > -1e-9:
            return part, value, prices
        helpful = np.argsort(reduced)[: max(50, len(part) // 4)]
        part = np.union1d(part, helpful[reduced[helpful] < -1e-9])


def finish(
    scaled: Scaled,
    budget: float,
    overlap: bool,
    part: np.ndarray,
    lower: float,
    prices: tuple[np.ndarray, float],
    known: Sequence[int] | None = None,
) -> list[int] | None:
    """The integer program over the candidates that could be part of the best choice.

    Args:
        scaled: `Scaled`.
        budget: Float.
        overlap: Boolean.
        part: Array of the places of candidates to choose from in any case.
        lower: Float. Optimum of the linear program.
        prices: Its prices.
        known: List of places of a choice. Defaults to the best of the part.

    Returns:
        List of places of the chosen candidates; `None` if there is no choice.
    """
    known = scaled.solve(part, budget, overlap) if known is None else known
    # Without a choice in the part, none can be ruled out by its reduced cost.
    upper = np.inf if known is None else scaled.total(known)
    could = np.flatnonzero(scaled.reduced_costs(prices, overlap) <= upper - lower + 1e-9)
    could = np.union1d(could, [] if known is None else known).astype(int)
    return scaled.solve(could, budget, overlap)


class Scaled:
    """Candidates whose losses are scaled to 0 to 1, for the solver's tolerances.

    No single loss of the best choice is above the total of one network that
    has all tasks. So larger ones, such as those that rule a group out, are cut
    to 1.5 times that total and do not spoil the scale. Where that network is
    best for every task, all other losses are cut to the least of them.

    Args:
        candidates: `Candidates`.
        budget: Float.
    """

    def __init__(self, candidates: Candidates, budget: float) -> None:
        self.low = candidates.losses.min(axis=0)
        above = candidates.losses - self.low
        affordable = above[candidates.member.all(axis=1) & (candidates.costs <= budget + 1e-9)]
        least = above[candidates.member & (above > 0)].min(initial=np.inf)
        cut = max(1.5 * affordable.sum(axis=1).min(), least) if len(affordable) else np.inf
        above = np.where(candidates.member, np.minimum(above, cut), np.inf)
        self.unit = float(above[candidates.member].max()) or 1.0
        self.losses = above / self.unit
        self.costs = candidates.costs
        self.member = candidates.member

    def first_part(self) -> np.ndarray:
        """Candidates to begin with: for each task its best, and the largest ones."""
        best = np.argsort(self.losses, axis=0)[:3].ravel()
        largest = np.argsort(-self.member.sum(axis=1), kind="stable")[:50]
        return np.union1d(best, largest)

    def total(self, chosen: Sequence[int]) -> float:
        """Sum over the tasks of their best loss among the chosen."""
        return float(self.losses[chosen].min(axis=0).sum())

    def relax(self, part: np.ndarray, budget: float, overlap: bool) -> tuple[float, tuple[np.ndarray, float]]:
        """Solves the linear program over a part, with a way out for every task.

        Returns:
            Tuple of the optimum, and the prices: of each task, and of the
            budget.
        """
        from scipy.optimize import linprog

        objective, equal, most, limits = self._program(part, budget, overlap, way_out=True)
        tasks = self.losses.shape[1]
        found = linprog(objective, A_ub=most, b_ub=limits, A_eq=equal, b_eq=np.ones(tasks), method="highs")
        return found.fun, (found.eqlin.marginals, -found.ineqlin.marginals[0])

    def reduced_costs(self, prices: tuple[np.ndarray, float], overlap: bool) -> np.ndarray:
        """How much any choice with a candidate is above the optimum, at least."""
        of_task, of_budget = prices
        gains = np.where(self.member, of_task - np.where(self.member, self.losses, 0.0), 0.0)
        if overlap:
            gains = np.maximum(gains, 0.0)
        return of_budget * self.costs - gains.sum(axis=1)

    def solve(self, part: np.ndarray, budget: float, overlap: bool) -> list[int] | None:
        """Solves the integer program over a part."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        objective, equal, most, limits = self._program(part, budget, overlap)
        constraints = [LinearConstraint(equal, 1, 1), LinearConstraint(most, -np.inf, limits)]
        booleans = np.arange(len(objective)) < len(part)
        options = {"mip_rel_gap": 0.0}
        found = milp(objective, constraints=constraints, integrality=booleans, bounds=Bounds(0, 1), options=options)
        if found.x is None:
            return None
        chosen = part[found.x[: len(part)] > 0.5]
        return [int(place) for place in chosen]

    def _program(
        self, part: np.ndarray, budget: float, overlap: bool, way_out: bool = False
    ) -> tuple[np.ndarray, Any, np.ndarray, np.ndarray]:
        """Objective, rows that are 1, rows that are limited, and their limits."""
        from scipy import sparse

        count, tasks = len(part), self.losses.shape[1]
        n, t = np.nonzero(self.member[part])
        values = self.losses[part][n, t]
        costs = sparse.csr_array(np.r_[self.costs[part]][None])
        if overlap:
            y = np.arange(len(n))
            objective = np.r_[np.zeros(count), values]
            equal = sparse.csr_array((np.ones(len(n)), (t, count + y)), shape=(tasks, count + len(n)))
            links = sparse.csr_array(
                (np.r_[np.ones(len(n)), -np.ones(len(n))], (np.r_[y, y], np.r_[count + y, n])),
                shape=(len(n), count + len(n)),
            )
            costs = sparse.hstack([costs, sparse.csr_array((1, len(n)))])
            most = sparse.vstack([costs, links], format="csr")
        else:
            objective = np.bincount(n, weights=values, minlength=count)
            equal = sparse.csr_array((np.ones(len(n)), (t, n)), shape=(tasks, count))
            most = costs
        if way_out:  # a task may stay unserved at a loss that no choice would take
            objective = np.r_[objective, np.full(tasks, tasks + 1.0)]
            equal = sparse.hstack([equal, sparse.csr_array(np.eye(tasks))], format="csr")
            most = sparse.hstack([most, sparse.csr_array((most.shape[0], tasks))], format="csr")
        return objective, equal, most, np.r_[budget + 1e-9, np.zeros(most.shape[0] - 1)]
