"""The few statistics that a comparison over seeds needs."""

import math

import numpy as np


def mean_and_spread(values):
    """Mean and sample standard deviation (0 for a single value)."""
    values = np.asarray(values, dtype="float64")
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def confidence_interval(values, level=0.95):
    """Student's t interval of the mean.

    Args:
        values: Sequence of numbers, one for each seed.
        level: Float. Coverage. Defaults to `0.95`.

    Returns:
        Tuple `(low, high)`; infinite with fewer than two values.
    """
    from scipy import stats

    mean, spread = mean_and_spread(values)
    if len(values) < 2:
        return -math.inf, math.inf
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def sign_test(gains):
    """Two-sided sign test of gains against "as often up as down".

    Args:
        gains: Sequence of numbers; zeros are left out.

    Returns:
        The p-value; 1 where no gain is left.
    """
    from scipy import stats

    up, down = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    return float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
