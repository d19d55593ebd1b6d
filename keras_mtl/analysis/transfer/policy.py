"""The result: which tasks to learn from data, and from which the others are transferred."""

import io


class TransferPolicy:
    """One transfer for each target, from a few sources.

    Attributes:
        sources: Tuple of the tasks whose networks are trained from data.
        transfers: Dict from target to the tuple of its sources.
        affinities: Dict from target to the affinity of its transfer.
        objective: Float. The weighted sum of the affinities.
        budget: Float. What the sources' networks may cost together.
    """

    def __init__(self, sources, transfers, affinities, objective, budget):
        self.sources = tuple(sources)
        self.transfers = dict(transfers)
        self.affinities = dict(affinities)
        self.objective = float(objective)
        self.budget = float(budget)

    def plot(self, path):
        """Draws the transfer graph: sources in the middle, arrows to targets.

        Args:
            path: Path of a PNG, PDF or SVG file.
        """
        from keras_mtl.analysis.transfer.plots import plot_transfers

        plot_transfers(self, path)

    def __str__(self):
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for name in ("target", "from", "affinity"):
            table.add_column(name, justify="right" if name == "affinity" else "left")
        for target, sources in self.transfers.items():
            table.add_row(target, " + ".join(sources), f"{self.affinities[target]:.3g}")
        stream = io.StringIO()
        Console(file=stream, width=100).print(table)
        trained = ", ".join(self.sources)
        return f"{stream.getvalue()}Trained from data: {trained}. Objective {self.objective:.4f}."
