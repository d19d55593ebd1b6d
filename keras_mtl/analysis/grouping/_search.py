"""Groups of many tasks: column generation by local search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.analysis.grouping._integer import Scaled, finish, relaxed

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping._pairwise import Pairwise
    from keras_mtl.analysis.grouping.network import Candidates

ROUNDS = 40
RESTARTS = 20
NEIGHBORS_AT_ONCE = 2_000_000


def search(
    pairwise: Pairwise, budget: float, overlap: bool = True, extra: Candidates | None = None, seed: int = 0
) -> tuple[Candidates, list[int] | None]:
    """Finds candidates among more groups than can be listed.

    Column generation: the linear program of `integer` over the candidates so
    far gives each task and the budget a price; local search looks for groups
    that are worth more than they cost at these prices; they join. What is
    found is then chosen from exactly, but a group that the local search misses
    could be better: no proof of optimality.

    Args:
        pairwise: `Pairwise`.
        budget: Float. What the networks may cost together.
        overlap: Boolean. Whether a task may be in several networks.
        extra: `Candidates` that are there anyway. Defaults to none.
        seed: Integer. Seed of the local search. Defaults to `0`.

    Returns:
        Tuple of `Candidates` and the list of places of the chosen ones, `None`
        if there is no choice.
    """
    rng = np.random.default_rng(seed)
    random_groups = [_partition(pairwise, _most(pairwise, budget), rng) for _ in range(RESTARTS)]
    member = _unique(np.concatenate([_first_groups(pairwise), *random_groups]))
    part = None
    for _ in range(ROUNDS):
        candidates = pairwise.candidates(member) if extra is None else pairwise.candidates(member) + extra
        scaled = Scaled(candidates, budget)
        part = scaled.first_part() if part is None else part
        part, lower, prices = relaxed(scaled, budget, overlap, part)
        of_task = prices[0] * scaled.unit + scaled.low
        of_budget = prices[1] * scaled.unit
        starts = _starts(member, scaled.reduced_costs(prices, overlap)[: len(member)], rng)
        found, worth = _climb(pairwise, starts, of_task, of_budget, overlap)
        known = {row.tobytes() for row in member}
        found = found[worth > 1e-9 * scaled.unit]
        new = [row for row in found if row.tobytes() not in known]
        if not new:
            break
        # New groups go behind the others, before `extra`: places of the part stay what they were.
        before = len(member)
        member = np.concatenate([member, _unique(np.array(new))])
        part = np.where(part < before, part, part + len(member) - before)
    chosen = finish(scaled, budget, overlap, part, lower, prices)  # type: ignore[arg-type]
    return _polish(pairwise, budget, overlap, candidates, chosen)


def _polish(
    pairwise: Pairwise, budget: float, overlap: bool, candidates: Candidates, chosen: list[int] | None
) -> tuple[Candidates, list[int] | None]:
    """Chooses again with the neighbors of the chosen groups, until nothing is gained."""
    total = np.inf
    while chosen is not None and (now := _total(candidates, chosen)) < total - 1e-9 * abs(now):
        total = now
        groups = candidates.member[chosen]
        toggled = groups[:, None, :] ^ np.eye(groups.shape[1], dtype=bool)
        joined = groups[:, None, :] | groups[None, :, :]
        near = np.concatenate([toggled.reshape(-1, groups.shape[1]), joined.reshape(-1, groups.shape[1])])
        before = len(candidates.costs)
        candidates = candidates + pairwise.candidates(_unique(near[near.any(axis=1)]))
        scaled = Scaled(candidates, budget)
        part = np.arange(before, len(candidates.costs))
        part, lower, prices = relaxed(scaled, budget, overlap, np.union1d(part, chosen))
        chosen = finish(scaled, budget, overlap, part, lower, prices, chosen)
    return candidates, chosen


def _total(candidates: Candidates, chosen: Sequence[int]) -> float:
    return float(candidates.losses[chosen].min(axis=0).sum())


def _most(pairwise: Pairwise, budget: float) -> int:
    """How many networks the budget pays for, at most as many as there are tasks."""
    count = len(pairwise.tasks)
    cheapest = pairwise.costs(np.eye(count, dtype=bool)).min()
    return int(np.clip(budget / cheapest + 1e-9, 1, count))


def _unique(member: np.ndarray) -> np.ndarray:
    return np.unique(member, axis=0)


def _first_groups(pairwise: Pairwise) -> np.ndarray:
    """All tasks, each alone, each with its best mate, and the nested clusters."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    count = len(pairwise.tasks)
    alone = np.eye(count, dtype=bool)
    values = pairwise.values + np.where(alone, np.inf, 0.0)
    pairs = alone | alone[values.argmin(axis=0)]
    distances = (pairwise.values + pairwise.values.T) / 2
    clusters = list(alone)
    for left, right, *_ in linkage(squareform(distances - distances.min(), checks=False), "average"):
        clusters.append(clusters[int(left)] | clusters[int(right)])
    return np.concatenate([np.ones((1, count), bool), alone, pairs, np.array(clusters)])


def _partition(pairwise: Pairwise, most: int, rng: np.random.Generator) -> np.ndarray:
    """Groups that hold every task once: from random ones, task by task to a better place."""
    count = len(pairwise.tasks)
    groups = np.eye(most, dtype=bool)[rng.integers(0, most, count)].T
    tasks = np.arange(count)
    while True:
        toggled = groups[:, None, :] ^ np.eye(count, dtype=bool)
        change = _sums(pairwise, toggled.reshape(-1, count)).reshape(toggled.shape[:2])
        change -= _sums(pairwise, groups)[:, None]
        home = groups.argmax(axis=0)
        change += change[home, tasks]  # leaving home, and joining another
        change[home, tasks] = 0.0
        place, task = np.unravel_index(change.argmin(), change.shape)
        if change[place, task] > -1e-9:
            return groups[groups.any(axis=1)]
        groups[[home[task], place], task] ^= True


def _sums(pairwise: Pairwise, member: np.ndarray) -> np.ndarray:
    losses = pairwise.losses(member)
    worst = np.abs(pairwise.values).max() * member.shape[1] + 1.0  # in place of infinity, which cannot be compared
    return np.where(member, np.where(np.isfinite(losses), losses, worst), 0.0).sum(axis=1)


def _starts(member: np.ndarray, reduced: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Groups that cost least at the prices, as they are and with a few tasks changed."""
    best = member[np.argsort(reduced)[: 2 * member.shape[1]]]
    changed = best ^ (rng.random(best.shape) < 3 / member.shape[1])
    return _unique(np.concatenate([best, changed[changed.any(axis=1)]]))


def _climb(
    pairwise: Pairwise, groups: np.ndarray, of_task: np.ndarray, of_budget: float, overlap: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Adds or drops one task at a time while that makes a group worth more."""
    groups = groups.copy()
    worth = _worth(pairwise, groups, of_task, of_budget, overlap)
    count = groups.shape[1]
    active = np.arange(len(groups))
    while len(active):
        still = []
        for places in np.array_split(active, -(-len(active) * count * count // NEIGHBORS_AT_ONCE)):
            changed = groups[places][:, None, :] ^ np.eye(count, dtype=bool)
            values = _worth(pairwise, changed.reshape(-1, count), of_task, of_budget, overlap).reshape(-1, count)
            steps = values.argmax(axis=1)
            gains = values[np.arange(len(places)), steps]
            better = gains > worth[places] + 1e-12
            groups[places[better], steps[better]] ^= True
            worth[places[better]] = gains[better]
            still.append(places[better])
        active = np.concatenate(still)
    return groups, worth


def _worth(pairwise: Pairwise, member: np.ndarray, of_task: np.ndarray, of_budget: float, overlap: bool) -> np.ndarray:
    """What groups are worth at the prices, less what they cost."""
    losses = pairwise.losses(member)
    gains = np.where(member, of_task - np.where(np.isfinite(losses), losses, np.inf), 0.0)
    gains = np.maximum(gains, 0.0) if overlap else gains
    costs = np.ones(len(member)) if pairwise.cost is None else pairwise.costs(member)
    return np.where(member.any(axis=1), gains.sum(axis=1) - of_budget * costs, -np.inf)
