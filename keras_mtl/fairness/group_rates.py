"""Rates of decisions by group, from arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_mtl._types import Tensor


def group_rates(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, groups: npt.ArrayLike, threshold: float = 0.5
) -> dict[str, Any]:
    """Shares of positive decisions in each group, and the gaps between groups.

    Args:
        y_true: Array of n labels, 0 and 1. NaN where the label is missing, and
            the example not counted.
        y_pred: Array of n scores.
        groups: Array of n groups, of any kind of value.
        threshold: Float. Scores above it are decided as positive. Defaults to
            0.5.

    Returns:
        Dict with the numbers of examples, `"count"`, and the rates
        `"positive_rate"`, `"true_positive_rate"` and `"false_positive_rate"`,
        each a dict from group to number (NaN where there is nobody), and the
        largest differences between two groups: `"demographic_parity_gap"`,
        `"equal_opportunity_gap"`, `"false_positive_gap"` and
        `"equalized_odds_gap"`.

    Raises:
        ValueError: If the arrays have other lengths, or there are no two
            groups with members.

    Example:

    >>> rates = keras_mtl.fairness.group_rates([0, 1, 0, 1], [0.9, 0.8, 0.7, 0.1], ["a", "a", "b", "b"])
    >>> rates["positive_rate"], rates["demographic_parity_gap"]
    ({'a': 1.0, 'b': 0.5}, 0.5)
    """
    y_true, y_pred, groups = (np.asarray(values).ravel() for values in (y_true, y_pred, groups))
    if not len(y_true) == len(y_pred) == len(groups):
        raise ValueError(
            "`y_true`, `y_pred` and `groups` should have one value for each example. "
            f"Received: {len(y_true)}, {len(y_pred)} and {len(groups)} values"
        )
    labelled = ~np.isnan(y_true.astype("float64"))
    y_true, y_pred, groups = y_true[labelled] > 0.5, y_pred[labelled] > threshold, groups[labelled]
    names = np.unique(groups).tolist()
    if len(names) < 2:
        raise ValueError(f"`groups` should have members of two groups or more. Received: groups {names}")
    parts = {"positive_rate": np.ones_like(y_true), "true_positive_rate": y_true, "false_positive_rate": ~y_true}  # type: ignore[operator]
    rates = {"count": {name: int(np.sum(groups == name)) for name in names}}
    for rate, part in parts.items():
        rates[rate] = {name: _mean(y_pred[part & (groups == name)]) for name in names}  # type: ignore[index, misc]
    gaps = [float(np.ptp(list(rates[rate].values()))) for rate in parts]
    rates["demographic_parity_gap"], rates["equal_opportunity_gap"], rates["false_positive_gap"] = gaps
    rates["equalized_odds_gap"] = float(np.max(gaps[1:]))
    return rates


def _mean(values: Tensor) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
