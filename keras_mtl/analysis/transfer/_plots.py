"""A picture of a transfer graph."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._colors import task_colors
from keras_mtl._pyplot import pyplot

if TYPE_CHECKING:
    from keras_mtl.analysis.transfer.transfer_policy import TransferPolicy


def plot_transfers(policy: TransferPolicy, path: str | os.PathLike) -> None:
    """Draws sources on the left, targets on the right, and arrows between them.

    Arrows are the thicker the larger the affinity; a target of several sources
    has one from each.

    Args:
        policy: `keras_mtl.analysis.TransferPolicy`.
        path: Path of the picture.
    """
    plt = pyplot()
    order = list(policy.sources)
    # Targets stand by their sources, so that few arrows cross.
    targets = sorted(policy.transfers, key=lambda t: (np.mean([order.index(s) for s in policy.transfers[t]]), t))
    right = {target: -float(y) for y, target in enumerate(targets)}
    wanted = {s: np.mean([right[t] for t in targets if s in policy.transfers[t]]) for s in order}
    sources = sorted(order, key=lambda s: -wanted[s])
    left = dict(zip(sources, np.linspace(0, 1 - len(targets), len(sources) + 2)[1:-1], strict=True))
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.33 * max(len(targets), 2 * len(sources))), layout="constrained")
    strongest = max([*policy.affinities.values(), 1e-12])
    colors = task_colors(sources)
    for target in targets:
        for source in policy.transfers[target]:
            arrow = {
                "arrowstyle": "-|>",
                "color": colors[source],
                "linewidth": 0.7 + 3.3 * max(policy.affinities[target], 0) / strongest,
                "alpha": 0.8,
                "shrinkA": 4,
                "shrinkB": 2,
            }
            axis.annotate("", (1.0, right[target]), (0.0, left[source]), arrowprops=arrow)
    for target, y in right.items():
        weight = "bold" if target in sources else "normal"
        axis.text(1.01, y, target, va="center", fontsize=9, weight=weight)
        axis.text(1.62, y, f"{policy.affinities[target]:.2g}", va="center", ha="right", fontsize=9, color="0.3")
    for source, y in left.items():
        style = {"boxstyle": "round", "facecolor": colors[source], "edgecolor": "black"}
        axis.text(-0.01, y, source, ha="right", va="center", fontsize=10, color="white", weight="bold", bbox=style)
    heading: dict = {"fontsize": 9, "color": "0.3", "va": "bottom"}
    axis.text(
        -0.01, 0.6, f"trained from labels\n({len(sources)} source{'s' * (len(sources) > 1)})", ha="right", **heading
    )
    axis.text(1.01, 0.6, f"gets features\n({len(targets)} targets; bold: a source too)", **heading)
    axis.text(1.62, 0.6, "affinity", ha="right", **heading)
    axis.set(xlim=(-0.35, 1.65), ylim=(0.5 - len(targets), 1.5))
    axis.axis("off")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
