"""A transfer map: the measured transfers between tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl._types import Tasks
from keras_mtl.analysis.transfer.plan_transfers import plan_transfers
from keras_mtl.metrics._affinity import Affinity

if TYPE_CHECKING:
    from keras_mtl.analysis.transfer.transfer_policy import TransferPolicy


class TransferMap:
    """Transfers that were trained, with their affinities.

    Attributes:
        tasks: Tuple of the tasks.
        affinities: Dict from `(sources, target)` to affinity; those of one
            target sum to 1.
        losses: Dict from `(sources, target)` to the mean validation loss.
    """

    def __init__(
        self,
        tasks: Tasks,
        affinities: Mapping[tuple[tuple[str, ...], str], float],
        losses: Mapping[tuple[Sequence[str], str], float],
    ) -> None:
        self.tasks = tuple(tasks)
        self.affinities = dict(affinities)
        self.losses = dict(losses)

    def affinity(self) -> Affinity:
        """The transfers from one source, as an `Affinity`."""
        values = np.full((len(self.tasks), len(self.tasks)), np.nan)
        for (sources, target), value in self.affinities.items():
            if len(sources) == 1:
                values[self.tasks.index(sources[0]), self.tasks.index(target)] = value
        return Affinity(self.tasks, values, "transfer affinity")

    def plan(self, budget: float, *, max_sources: int | None = None, **options: Any) -> TransferPolicy:
        """Chooses sources within a budget, and a transfer for each target.

        Args:
            budget: Float. What the sources' networks may cost together.
            max_sources: Integer. The most sources of a transfer. Defaults to `None`:
                all that were trained.
            **options: Further arguments of `plan_transfers`.

        Returns:
            A `TransferPolicy`.
        """
        edges = {edge: p for edge, p in self.affinities.items() if max_sources is None or len(edge[0]) <= max_sources}
        return plan_transfers(edges, budget, **options)
