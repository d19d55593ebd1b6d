"""The best networks by trying every choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.network import Candidates

MOST_CHOICES = 1_000_000


def exhaustive(candidates: Candidates, budget: float, overlap: bool = True) -> list[int] | None:
    """Tries every set of networks within the budget.

    Args:
        candidates: `Candidates`.
        budget: Float. What the networks may cost together.
        overlap: Boolean. Whether a task may be in several networks.

    Returns:
        List of places of the chosen candidates; `None` if there is no choice.
    """
    losses, costs, member = candidates.losses, candidates.costs, candidates.member
    choices = _count(costs, budget)
    if choices > MOST_CHOICES:
        raise ValueError(
            f"Method 'exhaustive' should have at most {MOST_CHOICES:,} choices to try. Received: {choices:,} of "
            f"{len(costs)} candidates within budget={budget:g}. Method 'integer' is as exact."
        )
    best, chosen = np.inf, None
    # Choices still to be widened: places taken, losses so far, tasks so far, money left.
    stack: list = [((), np.full(losses.shape[1], np.inf), np.zeros(losses.shape[1], bool), float(budget))]
    while stack:
        places, so_far, taken, rest = stack.pop()
        for place in range(places[-1] + 1 if places else 0, len(costs)):
            if costs[place] > rest + 1e-9 or (not overlap and (taken & member[place]).any()):
                continue
            now = np.minimum(so_far, losses[place])
            total = now.sum()
            if total < best - 1e-12:
                best, chosen = total, [*places, place]
            stack.append(((*places, place), now, taken | member[place], rest - costs[place]))
    return chosen


def _count(costs: np.ndarray, budget: float) -> int:
    """Number of sets of candidates that the budget pays for, overlapping ones among them."""
    by_cost = {0.0: 1}
    for cost in costs:
        for before, count in [*by_cost.items()]:
            now = round(before + cost, 9)
            if now <= budget + 1e-9:
                by_cost[now] = by_cost.get(now, 0) + count
    return sum(by_cost.values()) - 1
