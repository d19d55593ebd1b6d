"""The best networks by branch and bound, as Standley et al. choose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.network import Candidates


def branch_and_bound(candidates: Candidates, budget: float, overlap: bool = True) -> list[int] | None:
    """Tries choices of networks, and leaves out those that cannot win.

    A branch is cut where even the best that each task could still get, from
    any network that the rest of the budget pays for, is no better than the
    best choice so far.

    Args:
        candidates: `Candidates`.
        budget: Float. What the networks may cost together.
        overlap: Boolean. Whether a task may be in several networks.

    Returns:
        List of places of the chosen candidates; `None` if there is no choice.

    Reference:

    - T. Standley et al., "Which Tasks Should Be Learned Together in Multi-task Learning?", ICML 2020, section 5.
    """
    losses, costs, member = candidates.losses, candidates.costs, candidates.member
    best, chosen = np.inf, None

    def widen(places: list[int], so_far: np.ndarray, taken: np.ndarray, rest: float, left: np.ndarray) -> None:
        nonlocal best, chosen
        fits = costs[left] <= rest + 1e-9
        if not overlap:
            fits &= ~(member[left] & taken).any(axis=1)
        left = left[fits]
        left = left[(losses[left] < so_far).any(axis=1)]
        if not len(left) or np.minimum(so_far, losses[left].min(axis=0)).sum() >= best - 1e-12:
            return
        together = np.minimum(so_far, losses[left])
        totals = together.sum(axis=1)
        # The most promising first: by what they solve, then by the total of what they solve.
        solved = np.where(np.isfinite(together), together, 0.0).sum(axis=1)
        order = np.lexsort((solved, -np.isfinite(together).sum(axis=1)))
        left, together, totals = left[order], together[order], totals[order]
        for i, place in enumerate(left):
            if totals[i] < best - 1e-12:
                best, chosen = totals[i], [*places, int(place)]
            widen([*places, int(place)], together[i], taken | member[place], rest - costs[place], left[i + 1 :])

    start = np.arange(len(costs))
    if overlap:
        start = _undominated(losses, costs)
    widen([], np.full(losses.shape[1], np.inf), np.zeros(losses.shape[1], bool), float(budget), start)
    return chosen


def _undominated(losses: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Candidates that no other beats on every task at no higher cost."""
    kept = []
    for place in np.lexsort((-np.isfinite(losses).sum(axis=1), costs)):
        others = losses[kept]
        if not (np.all(others <= losses[place], axis=1) & (costs[kept] <= costs[place])).any():
            kept.append(int(place))
    return np.array(kept)
