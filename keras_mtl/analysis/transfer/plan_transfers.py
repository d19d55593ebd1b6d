"""The boolean program of Taskonomy: the best transfers within a budget of source tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl._types import Tasks
from keras_mtl.analysis.transfer.transfer_policy import TransferPolicy


def plan_transfers(
    affinities: Mapping[tuple[Any, str], float],
    budget: float,
    *,
    targets: Sequence[str] | None = None,
    sources: Tasks | None = None,
    weights: Mapping[str, float] | None = None,
    costs: Mapping[str, float] | None = None,
) -> TransferPolicy:
    """Chooses which tasks to learn from data, and a transfer for each target.

    `max sum_e r_(t_e) p_e x_e` over boolean x for transfers e and tasks v:
    every target has exactly one transfer; a transfer needs all its sources,
    `|S_e| x_e <= sum_(s in S_e) x_s`; sources cost no more than the budget,
    `sum_v l_v x_v <= budget`. Solved exactly with HiGHS.

    Args:
        affinities: Dict from `(sources, target)` to affinity, `sources` being
            a tuple of tasks, or from `(source, target)` with a string. Tasks
            may be sources only.
        budget: Float. What the sources' networks may cost together; without
            `costs`, their number.
        targets: List of targets. Defaults to all that occur.
        sources: List of the tasks that may be learned from data. Defaults to
            all that occur.
        weights: Dict from target to its importance. Defaults to 1 each.
        costs: Dict from source to the cost of its network. Defaults to 1 each.

    Returns:
        A `TransferPolicy`.

    Raises:
        ValueError: If an affinity is not finite, a target has no transfer, or
            the budget does not pay for one source or for reaching every
            target.

    Example:

    >>> affinities = {("a", "a"): 0.6, ("b", "a"): 0.4, ("a", "b"): 0.3, ("b", "b"): 0.7}
    >>> policy = keras_mtl.analysis.plan_transfers(affinities, budget=1)
    >>> policy.sources, policy.transfers
    (('b',), {'a': ('b',), 'b': ('b',)})

    Reference:

    - A. R. Zamir et al., "Taskonomy: Disentangling Task Transfer Learning", CVPR 2018, section 3.4.
    """
    edges = _edges(affinities)
    found = list(dict.fromkeys(target for _, target, _ in edges))
    targets = found if targets is None else list(targets)
    allowed = list(dict.fromkeys(s for of_edge, _, _ in edges for s in of_edge)) if sources is None else list(sources)
    edges = [e for e in edges if e[1] in targets and set(e[0]) <= set(allowed)]
    missing = [target for target in targets if target not in {target for _, target, _ in edges}]
    if missing:
        raise ValueError(f"Every target should have a transfer. Received: none to {missing}")
    importance = _by_task(weights, targets, "weights")
    prices = _by_task(costs, allowed, "costs", positive=True)
    if not np.isfinite(budget) or budget < min(prices.values()) - 1e-9:
        raise ValueError(
            f"`budget` should pay for one source at least: the cheapest costs {min(prices.values()):g}. "
            f"Received: budget={budget!r}"
        )
    values = np.array([importance[target] * p for _, target, p in edges])
    chosen, trained = _solve(edges, values, targets, allowed, [prices[v] for v in allowed], budget)
    transfers = {edges[e][1]: edges[e] for e in chosen}
    return TransferPolicy(
        trained,
        {target: transfers[target][0] for target in targets},
        {target: transfers[target][2] for target in targets},
        values[chosen].sum(),
        budget,
    )


def _edges(affinities: Mapping[tuple[Any, str], float]) -> list[tuple[tuple[str, ...], str, float]]:
    edges = []
    for (sources, target), value in affinities.items():
        sources = (sources,) if isinstance(sources, str) else tuple(sources)
        if not np.isfinite(value):
            raise ValueError(f"Affinities should be finite. Received: {value} of {sources} on task '{target}'")
        edges.append((sources, target, float(value)))
    if not edges:
        raise ValueError("`affinities` should hold at least one transfer. Received: none")
    return edges


def _by_task(
    given: Mapping[str, float] | None, tasks: Tasks, argument: str, positive: bool = False
) -> dict[str, float]:
    given = given or {}
    unknown = [task for task in given if task not in tasks]
    if unknown:
        raise ValueError(f"The keys of `{argument}` should be tasks: {tasks}. Received: {unknown}")
    wrong = {task: v for task, v in given.items() if not np.isfinite(v) or v < 0 or (positive and v == 0)}
    if wrong:
        raise ValueError(
            f"`{argument}` should be finite and {'above' if positive else 'at least'} 0. Received: {wrong}"
        )
    return {task: float(given.get(task, 1.0)) for task in tasks}


def _solve(
    edges: Sequence[tuple[tuple[str, ...], str, float]],
    values: np.ndarray,
    targets: Sequence[str],
    tasks: Sequence[str],
    costs: Sequence[float],
    budget: float,
) -> tuple[np.ndarray, list[str]]:
    from scipy import sparse
    from scipy.optimize import Bounds, LinearConstraint, milp

    count, place = len(edges), {task: len(edges) + v for v, task in enumerate(tasks)}
    size = count + len(tasks)
    one, need = sparse.lil_array((len(targets), size)), sparse.lil_array((count, size))
    for e, (sources, target, _) in enumerate(edges):
        one[targets.index(target), e] = 1
        need[e, e] = len(sources)
        for source in sources:
            need[e, place[source]] = -1
    spent = np.r_[np.zeros(count), costs][None]
    constraints = [
        LinearConstraint(one.tocsr(), 1, 1),
        LinearConstraint(need.tocsr(), -np.inf, 0),
        LinearConstraint(spent, -np.inf, budget + 1e-9),
    ]
    # A source that no transfer uses is worth a little less than none: it is not trained for nothing.
    scale = np.abs(values).max() or 1.0
    objective = np.r_[-values / scale, np.full(len(tasks), 1e-7)]
    options = {"mip_rel_gap": 0.0}
    found = milp(objective, constraints=constraints, integrality=np.ones(size), bounds=Bounds(0, 1), options=options)
    if found.x is None:
        raise ValueError(
            f"`budget` should pay for sources that reach every target. Received: budget={budget!r}, for which there "
            "are none"
        )
    chosen = np.flatnonzero(found.x[:count] > 0.5)
    used = {source for e in chosen for source in edges[e][0]}  # type: ignore[call-overload]
    return chosen, [task for task in tasks if task in used]
