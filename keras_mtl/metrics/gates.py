"""Utilization of experts by gates."""

import numpy as np
import numpy.typing as npt


def gate_utilization(probabilities: npt.ArrayLike) -> float:
    """How many of its experts a gate uses, as a share of all.

    `exp(-sum_i p_i log p_i) / n`: 1 where a gate uses all n experts alike,
    `1 / n` where it uses one alone.

    Args:
        probabilities: Array of shape `(n,)`, a gate's mean probability of each
            expert. They are scaled to a sum of 1.

    Returns:
        Float above 0, at most 1.

    Raises:
        ValueError: If a probability is negative or all are 0.

    Example:

    >>> keras_mtl.metrics.gate_utilization([0.5, 0.5, 0.0, 0.0])
    0.5
    """
    values = np.asarray(probabilities, "float64")
    if values.ndim != 1 or (values < 0).any() or not values.sum() > 0:
        raise ValueError(
            f"`probabilities` should be a vector of numbers of at least 0 with one above. Received: {probabilities!r}"
        )
    values = values / values.sum()
    used = values[values > 0]
    return float(np.exp(-(used * np.log(used)).sum()) / len(values))


def dead_experts(probabilities: npt.ArrayLike, dead_below: float = 0.1) -> list[int]:
    """Experts that no gate uses.

    An expert is dead where every gate that reaches it gives it, on average,
    less than `dead_below` times its equal share, `1 / n` for a gate of n experts.

    Args:
        probabilities: Array of shape `(gates, experts)` of mean probabilities,
            NaN where a gate does not reach an expert.
        dead_below: Float. Part of the equal share. Defaults to `0.1`.

    Returns:
        List of the dead experts' columns.

    Example:

    >>> keras_mtl.metrics.dead_experts([[0.6, 0.39, 0.01], [0.02, 0.97, 0.01]])
    [2]
    """
    values = np.atleast_2d(np.asarray(probabilities, "float64"))
    equal_share = 1.0 / np.isfinite(values).sum(axis=1, keepdims=True)
    unused = np.where(np.isfinite(values), values < dead_below * equal_share, True)
    return [int(column) for column in np.flatnonzero(unused.all(axis=0))]
