"""Groups of thousands of tasks, by hierarchical clustering."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from keras_mtl.metrics._affinity import Affinity


def tree(affinity: Affinity) -> np.ndarray:
    """Average-linkage clustering of tasks by affinity.

    The distance of two tasks is the largest affinity less theirs.

    Args:
        affinity: Symmetric `Affinity`.

    Returns:
        Linkage matrix of shape `(K - 1, 4)`, as SciPy has it.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    values = affinity.check(symmetric=True).values
    off = values[~np.eye(len(values), dtype=bool)]
    distances = np.where(np.eye(len(values), dtype=bool), 0.0, off.max() - values)
    return linkage(squareform((distances + distances.T) / 2, checks=False), "average")


def clusters(affinity: Affinity, count: int) -> np.ndarray:
    """Cuts the tree of `tree` into groups.

    Args:
        affinity: Symmetric `Affinity`.
        count: Integer. Number of groups; as many as there are tasks at most.

    Returns:
        Boolean array of shape `(groups, K)`, in the order of their first task.
    """
    from scipy.cluster.hierarchy import fcluster

    labels = fcluster(tree(affinity), max(1, min(count, len(affinity.tasks))), "maxclust")
    firsts = sorted(set(labels), key=lambda label: int(np.argmax(labels == label)))
    return np.array([labels == label for label in firsts])
