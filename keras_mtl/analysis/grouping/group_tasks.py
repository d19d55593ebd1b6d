"""Choosing groups of tasks from scores, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._types import Structure, Tasks
from keras_mtl.analysis.grouping._branch_and_bound import branch_and_bound
from keras_mtl.analysis.grouping._exhaustive import exhaustive
from keras_mtl.analysis.grouping._integer import integer
from keras_mtl.analysis.grouping._pairwise import ALL_GROUPS_UP_TO, Pairwise, pairwise_of_networks
from keras_mtl.analysis.grouping._search import search
from keras_mtl.analysis.grouping.grouping import Grouping
from keras_mtl.analysis.grouping.network import Candidates, Network
from keras_mtl.metrics._affinity import Affinity, as_affinity
from keras_mtl.metrics._clustering import clusters

SOLVERS = {"exhaustive": exhaustive, "branch_and_bound": branch_and_bound, "integer": integer}
METHODS = (*SOLVERS, "higher_order", "early_stopping", "clustering")


def group_tasks(
    scores: Affinity | Mapping[str, Mapping[str, float]] | Sequence[Network],
    budget: float,
    *,
    method: str = "integer",
    tasks: Sequence[str] | None = None,
    alone: float | Mapping[str, float] = 0.0,
    cost: Callable[[tuple[str, ...]], float] | None = None,
    overlap: bool = True,
) -> Grouping:
    """Chooses which tasks to train together, within a budget of networks.

    From losses of networks that were trained, it minimizes the sum over the
    tasks of the least loss among the chosen networks:

    `min_C sum_t min_(n in C, t in n) L_n(t)` with `sum_(n in C) c_n <= budget`.

    From affinities `A[u, t]`, "u helps t", it maximizes the mean over the
    tasks of the best score among the chosen groups, where task t in group S
    scores `mean_(u in S, u != t) A[u, t]`.

    The methods "exhaustive", "branch_and_bound" and "integer" give the same,
    best answer. The first two are for few candidates (their time grows
    exponentially with the budget), the third, which solves an integer program
    with HiGHS, is for all. Affinities of up to 14 tasks are solved over
    every group that there is; above that, "integer" chooses exactly among
    groups that it finds by column generation with local search, and
    `Grouping.exact` says so.

    Args:
        scores: Affinities (an `Affinity`, a dict from source to target to
            value, or an array with sources as rows), or a list of `Network`.
        budget: Float. What the networks may cost together. With affinities and
            without `cost`, their number.
        method: String:

            - `"exhaustive"`: tries every choice.
            - `"branch_and_bound"`: as Standley et al. choose.
            - `"integer"`: an integer program.
            - `"higher_order"`: takes from `scores` the networks of one and two
              tasks alone. The loss of a task in a larger network is expected
              to be its mean over the pairs with each mate.
            - `"early_stopping"`: takes losses of networks whose training was
              cut short. What is chosen is then trained in full; the objective
              is in terms of the early losses.
            - `"clustering"`: cuts the tree of average linkage; for thousands
              of tasks with symmetric affinities. It does not see the
              objective, and groups do not overlap.

            Defaults to `"integer"`.
        tasks: List of the tasks to solve, or the names for an array. Defaults
            to all that occur.
        alone: Float, or dict from task to float. What a task scores in a group
            of its own, from affinities. Defaults to `0.0`: no help, no harm.
        cost: Function from a tuple of tasks to the cost of their network, for
            groups that were not trained. Defaults to 1 for every network, or
            with "higher_order" the cost of the dearest pair.
        overlap: Boolean. Whether a task may be trained in several networks,
            one of which serves it. Defaults to `True`.

    Returns:
        A `Grouping`. Chosen networks that serve no task are left out of it.

    Raises:
        ValueError: If scores are not finite, a task is in no candidate, the
            budget does not pay for one network or for serving every task, or a
            method is given what it cannot use.

    Example:

    >>> affinity = {"a": {"b": 0.5, "c": -0.1}, "b": {"a": 0.4, "c": -0.2}, "c": {"a": -0.3, "b": 0.0}}
    >>> keras_mtl.analysis.group_tasks(affinity, budget=2).groups
    (('a', 'b'), ('c',))

    References:

    - T. Standley et al., "Which Tasks Should Be Learned Together in Multi-task Learning?", ICML 2020 (networks,
      branch and bound, higher-order approximation, early stopping).
    - C. Fifty et al., "Efficiently Identifying Task Groupings for Multi-Task Learning", NeurIPS 2021 (affinities).

    Deviations: the code of Fifty et al. gives a task of its own a score of
    -1e6, which `alone=-1e6` does.
    """
    check_boolean(overlap, "overlap")
    if method not in METHODS:
        raise ValueError(f"`method` should be one of {METHODS}. Received: method={method!r}")
    networks = isinstance(scores, (list, tuple)) and any(isinstance(score, Network) for score in scores)
    if networks:
        return _from_networks(list(scores), budget, method, tasks, cost, overlap)  # type: ignore[arg-type]
    if method in ("higher_order", "early_stopping"):
        raise ValueError(
            f"Method '{method}' should get a list of `Network`, which were trained. Received: affinities, which the "
            "other methods take"
        )
    affinity = _chosen_tasks(as_affinity(scores, tasks).check(), tasks)  # type: ignore[arg-type]
    pairwise = Pairwise(affinity.tasks, -affinity.values, _alone(alone, affinity.tasks), cost)
    if method == "clustering":
        return _clustered(affinity, pairwise, budget)
    return _from_pairwise(pairwise, budget, method, overlap, sign=-1.0)


def _from_networks(
    networks: Sequence[Network],
    budget: float,
    method: str,
    tasks: Tasks | None,
    cost: Callable[[tuple[str, ...]], float] | None,
    overlap: bool,
) -> Grouping:
    if method == "clustering":
        raise ValueError("Method 'clustering' should get affinities. Received: a list of `Network`")
    if cost is not None and method != "higher_order":
        raise ValueError("`cost` is for groups that were not trained; each `Network` has its own. Received: cost")
    candidates = Candidates.of(networks, tasks)
    if method == "higher_order":
        pairwise, small = pairwise_of_networks(networks, candidates.tasks, cost)
        return _from_pairwise(pairwise, budget, method, overlap, sign=1.0, extra=small)
    solver = SOLVERS.get(method, integer)
    candidates.check_budget(budget)
    return _result(candidates, solver(candidates, budget, overlap), budget, method, 1.0, overlap, exact=True)


def _from_pairwise(
    pairwise: Pairwise, budget: float, method: str, overlap: bool, sign: float, extra: Candidates | None = None
) -> Grouping:
    few = len(pairwise.tasks) <= ALL_GROUPS_UP_TO
    if not few and method in ("exhaustive", "branch_and_bound"):
        raise ValueError(
            f"Method '{method}' should have at most {ALL_GROUPS_UP_TO} tasks, whose groups can be listed. Received: "
            f"{len(pairwise.tasks)} tasks. Method 'integer' takes more."
        )
    groups = pairwise.all_groups() if few else np.eye(len(pairwise.tasks), dtype=bool)
    if extra is not None:
        groups = groups[groups.sum(axis=1) > 2]  # smaller networks are known
    candidates = pairwise.candidates(groups) if len(groups) else None
    if extra is not None:
        candidates = extra if candidates is None else candidates + extra
    candidates.check_budget(budget)
    if few:
        chosen = SOLVERS.get(method, integer)(candidates, budget, overlap)  # type: ignore[arg-type]
    else:
        candidates, chosen = search(pairwise, budget, overlap, extra)
    return _result(candidates, chosen, budget, method, sign, overlap, exact=few)


def _clustered(affinity: Affinity, pairwise: Pairwise, budget: float) -> Grouping:
    groups = clusters(affinity, int(budget))
    candidates = pairwise.candidates(groups)
    candidates.check_budget(budget)
    if candidates.costs.sum() > budget + 1e-9:
        raise ValueError(
            f"Method 'clustering' should have a budget for {len(groups)} networks. Received: budget={budget!r}, and "
            f"costs of {candidates.costs.sum():g}"
        )
    return _result(candidates, list(range(len(groups))), budget, "clustering", -1.0, False, exact=False)


def _result(
    candidates: Candidates | None,
    chosen: Sequence[int] | None,
    budget: float,
    method: str,
    sign: float,
    overlap: bool,
    exact: bool,
) -> Grouping:
    if chosen is None:
        raise ValueError(
            f"`budget` should pay for networks that serve every task{'' if overlap else ' once'}. "
            f"Received: budget={budget!r}, for which there is no such choice"
        )
    # Each task is served by its best network; among equal ones, by the one that serves most.
    losses = candidates.losses[chosen]
    ties = losses <= losses.min(axis=0) + 1e-12
    place = np.argmax(ties * (1 + ties.sum(axis=1, keepdims=True)), axis=0)
    used = sorted(set(place.tolist()))
    scores = sign * losses.min(axis=0)
    mean = sign < 0
    return Grouping(
        [candidates.tasks_of(chosen[i]) for i in used],
        dict(zip(candidates.tasks, (used.index(i) for i in place.tolist()), strict=True)),
        [candidates.costs[chosen[i]] for i in used],
        dict(zip(candidates.tasks, scores, strict=True)),
        budget,
        float(scores.mean() if mean else scores.sum()),
        method,
        exact,
    )


def _chosen_tasks(affinity: Affinity, tasks: Sequence[str] | None) -> Affinity:
    if tasks is None:
        return affinity
    missing = [task for task in tasks if task not in affinity.tasks]
    if missing:
        raise ValueError(f"Every task should be in a candidate. Received: no affinities of task {missing}")
    places = [affinity.tasks.index(task) for task in tasks]
    return Affinity(tasks, affinity.values[np.ix_(places, places)], affinity.name)


def _alone(alone: Structure, tasks: Sequence[str]) -> np.ndarray:
    if isinstance(alone, dict):
        unknown = [task for task in alone if task not in tasks]
        if unknown:
            raise ValueError(f"The keys of `alone` should be tasks: {list(tasks)}. Received: {unknown}")
        return -np.array([alone.get(task, 0.0) for task in tasks], "float64")
    return np.full(len(tasks), -float(alone))
