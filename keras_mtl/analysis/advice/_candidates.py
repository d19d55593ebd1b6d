"""The candidates of `advise`: ways of sharing that are worth a trial, each for a stated reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._types import Tasks
from keras_mtl.analysis.advice._problem import Candidate
from keras_mtl.analysis.grouping.group_tasks import group_tasks

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem
    from keras_mtl.analysis.advice._watch import Watched
    from keras_mtl.metrics._affinity import Affinity

ALONE, ALL = "nothing shared", "all shared"
LOPSIDED = 10.0  # one task has this many times another's share of the update
AGREE = 0.1  # cosine of task gradients above which tasks pull one way
BEHIND = 1.0  # percent that the fully shared model loses to single-task columns
CONFLICT = 0.3  # share of measurements in which a pair of tasks pulls apart
SPLIT = 1.25  # groups are tried where they are expected to help by this factor more than one group
_MOST_DEPTHS = 3


def choose_candidates(problem: Problem, watched: Watched, gain: float = 0.0) -> list[Candidate]:
    """The candidates, simplest first.

    Args:
        problem: `Problem`.
        watched: `Watched`.
        gain: Float. delta_m of the watched model, in percent over single-task
            columns. Defaults to `0.0`.

    Returns:
        List of `Candidate`.
    """
    weighting, weighed = _base_weighting(problem, watched)
    shared = {"weighting": weighting}
    found = [
        Candidate(
            ALONE, "What any sharing has to beat: a column of its own for each task.", options={"shared_depth": 0}
        )
    ]
    found.append(Candidate(ALL, "The fewest parameters, and what was watched first."))
    if weighed:
        found.append(Candidate(f"{ALL}, {weighting}", weighed, weighting=weighting))
    found += _depths(problem, watched, shared)
    found += _groups(problem, watched, shared)
    found += _mixed(problem, watched, shared, gain)
    if not problem.has_own_weighting:
        found += _gramian(watched, lopsided=bool(weighed))
    return found


def _base_weighting(problem: Problem, watched: Watched) -> tuple[str, str]:
    """What weighs the tasks wherever they share, and why, where that is not "equal"."""
    low, high = min(watched.shares.values()), max(watched.shares.values())
    if problem.has_own_weighting or high < LOPSIDED * low:
        return "equal", ""
    starved, fed = (pick(watched.shares, key=lambda task: watched.shares[task]) for pick in (min, max))
    weighting = "scale_invariant" if watched.losses_are_positive else "imtl_l"
    return weighting, (
        f"'{fed}' has {100 * high:.0f} % of the trunk's update, '{starved}' {100 * low:.2g} %: a weighting that does "
        "not see scales, here and wherever tasks share."
    )


def _depths(problem: Problem, watched: Watched, shared: Mapping[str, Any]) -> Iterator[Candidate]:
    count = len(problem.stages)
    depths = range(1, count)
    if len(depths) > _MOST_DEPTHS:
        depths = sorted({round(d) for d in np.linspace(1, count - 1, _MOST_DEPTHS)})
    for depth in depths:
        below, above = watched.cosine_of_stages(depth)
        reason = "Early stages are the most general; later ones are the tasks' own."
        if below is not None and above is not None:
            reason = f"Task gradients agree by {below:+.2f} (cosine) in the stages below and by {above:+.2f} above."
        options = {"shared_depth": int(depth)}
        yield Candidate(f"{depth} of {count} stages shared", reason, options=options, **shared)


def _groups(problem: Problem, watched: Watched, shared: Mapping[str, Any]) -> Iterator[Candidate]:
    """Groups of tasks, each with a trunk of its own, or parting after half of the stages."""
    count, tasks = len(problem.stages), problem.tasks
    if len(tasks) < 3:
        return
    seen = set()
    # Features of columns found planted groups more often than looking ahead did (`recipes/studies/grouping_study.py`).
    for measure, words in (
        (
            watched.similarity,
            "Features that tasks learn alone are alike by {0:.2g} within these groups, by {1:.2g} in all",
        ),
        (watched.affinity, "A step for a task takes {2:.2g} % off the losses within these groups, {3:.2g} % in all"),
    ):
        for groups, within, together in [] if measure is None else _grouped(measure.filled(0.0), tasks):
            key = frozenset(map(frozenset, groups))
            if key in seen:
                continue
            seen.add(key)
            named = " | ".join("+".join(group) for group in groups)
            reason = words.format(within, together, 100 * within, 100 * together) + "."
            whole = [[list(group) for group in groups]] * count
            yield Candidate(f"groups {named}", reason, "branched_sharing", {"branches": whole}, **shared)
            if count > 1:
                low = count // 2
                tree = [[list(tasks)]] * low + whole[low:]
                name = f"groups {named} after stage {low}"
                yield Candidate(name, reason, "branched_sharing", {"branches": tree}, **shared)


def _grouped(measure: Affinity, tasks: tuple[str, ...]) -> Iterator[tuple[list[tuple[str, ...]], float, float]]:
    """Groups that a measure tells apart, with what it is within them and over all pairs."""
    off = ~np.eye(len(tasks), dtype=bool)
    together = float(measure.values[off].mean())
    for budget in range(2, (3 if len(tasks) > 5 else 2) + 1):
        # A task that goes with nobody in particular is by itself.
        grouping = group_tasks(measure, budget, overlap=False, alone=max(together, 0.0))
        groups = sorted(grouping.groups, key=lambda group: tasks.index(group[0]))
        if len(groups) > 1 and grouping.objective > max(SPLIT * together, 0.0):  # type: ignore[operator]
            yield groups, grouping.objective, together  # type: ignore[misc]


def _mixed(problem: Problem, watched: Watched, shared: Mapping[str, Any], gain: float) -> Iterator[Candidate]:
    pairs = watched.pairs()
    least = min(pairs, key=lambda pair: pair[2])
    if least[2] < AGREE or max(pair[3] for pair in pairs) >= CONFLICT:
        seen = f"Gradients of '{least[0]}' and '{least[1]}' hardly agree (cosine {least[2]:+.2f})"
    elif gain <= -BEHIND:
        seen = f"Where everything is shared, it is {-gain:.2g} % behind single-task columns, though gradients agree"
    else:
        return
    reason = f"{seen}: training itself may find how much each task takes of the others."
    if len(problem.tasks) <= 4:
        yield Candidate("cross-stitch", reason, "cross_stitch", {}, **shared)
    options = {"shared_experts": 1, "task_experts": 1, "shared_depth": len(problem.stages) // 2}
    yield Candidate("CGC", reason, "cgc", options, **shared)


def _gramian(watched: Watched, lopsided: bool) -> Iterator[Candidate]:
    one, other, cosine, rate = max(watched.pairs(), key=lambda pair: pair[3])
    if rate < CONFLICT:
        return
    method = "imtl_g" if lopsided else "upgrad"
    yield Candidate(
        f"{ALL}, {method}",
        f"Gradients of '{one}' and '{other}' conflict in {100 * rate:.0f} % of the measurements (cosine "
        f"{cosine:+.2f}): a method that seeks a step which harms neither, on features' gradients, the cheapest.",
        weighting=method,
        gradients="features",
    )


def pairs_of(tasks: Tasks) -> list[tuple[int, int]]:
    """All pairs of places."""
    return list(itertools.combinations(range(len(tasks)), 2))
