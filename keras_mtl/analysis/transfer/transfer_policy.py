"""A transfer policy: which tasks to learn from data, and from which the others are transferred."""

import os
from collections.abc import Mapping, Sequence

from keras_mtl._tables import table_text
from keras_mtl.analysis.transfer._plots import plot_transfers


class TransferPolicy:
    """One transfer for each target, from a few sources.

    Attributes:
        sources: Tuple of the tasks whose networks are trained from data.
        transfers: Dict from target to the tuple of its sources.
        affinities: Dict from target to the affinity of its transfer.
        objective: Float. The weighted sum of the affinities.
        budget: Float. What the sources' networks may cost together.
    """

    def __init__(
        self,
        sources: Sequence[str],
        transfers: Mapping[str, Sequence[str]],
        affinities: Mapping[str, float],
        objective: float,
        budget: float,
    ) -> None:
        self.sources = tuple(sources)
        self.transfers = dict(transfers)
        self.affinities = dict(affinities)
        self.objective = float(objective)
        self.budget = float(budget)

    def plot(self, path: str | os.PathLike) -> None:
        """Draws the transfer graph: sources in the middle, arrows to targets.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        plot_transfers(self, path)

    def __str__(self) -> str:
        rows = [[t, " + ".join(sources), f"{self.affinities[t]:.3g}"] for t, sources in self.transfers.items()]
        table = table_text(["target", "from", "affinity"], rows, left=["target", "from"])
        trained = ", ".join(self.sources)
        return f"{table}Trained from data: {trained}. Objective {self.objective:.4f}."
