"""Merging the logs of several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from keras_mtl._types import Tasks

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouping import Grouping


def merge_histories(
    histories: Sequence[Mapping[str, Sequence[float]]], grouping: Grouping, weights: Mapping[str, float]
) -> dict[str, list[float]]:
    """Every task's logs from the network that serves it, and the total loss.

    Args:
        histories: List of dicts from log to a list of numbers, one dict for
            each network.
        grouping: `Grouping`.
        weights: Dict from task to its static weight.

    Returns:
        Dict from log to list of numbers.
    """
    logs = {}
    for task, place in grouping.serves.items():
        of_network = grouping.groups[place]
        logs.update({name: values for name, values in histories[place].items() if _task_of(name, of_network) == task})
    totals = {}
    for prefix in ("", "val_"):
        losses = [logs.get(f"{prefix}{task}_loss", []) for task in grouping.tasks]
        if all(losses) and len({len(values) for values in losses}) == 1:
            each = zip(*losses, strict=True)
            totals[f"{prefix}loss"] = [
                sum(weights[task] * value for task, value in zip(grouping.tasks, values, strict=True))
                for values in each
            ]
    return {**totals, **logs}  # type: ignore[dict-item]


def _task_of(name: str, tasks: Tasks) -> str | None:
    """The task whose log it is; `None` for logs of a whole network."""
    plain = name.removeprefix("val_")
    fitting = [task for task in tasks if plain.startswith(f"{task}_")]
    return max(fitting, key=len, default=None)
