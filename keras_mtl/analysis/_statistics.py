"""Statistics of a comparison over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_mtl._types import Tensor


def mean_and_spread(values: Tensor) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    values = np.asarray(values, dtype="float64")
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def confidence_interval(
    values: Sequence[float], others: Sequence[float] | None = None, level: float = 0.95, more: float = 0.0
) -> tuple[float, float] | None:
    """Interval of the difference of two means, or of one mean.

    Welch's: the two need not spread alike. What the mean of the others is not
    known to, the interval is wider by.

    Args:
        values: Sequence of numbers, one for each seed.
        others: Sequence of numbers that the values are compared with. Defaults
            to `None`: with 0, as if it were known exactly.
        level: Float. Coverage. Defaults to `0.95`.
        more: Float. Variance of the difference that seeds do not show, such as
            that of the choice of the examples, as if known exactly. Defaults to
            `0.0`.

    Returns:
        Tuple `(low, high)`, or `None` where there are fewer than two values.
    """
    from scipy import stats

    samples = [np.asarray(values, "float64")] + ([] if others is None else [np.asarray(others, "float64")])
    if min(map(len, samples)) < 2:
        return None
    parts = [sample.var(ddof=1) / len(sample) for sample in samples]
    difference = samples[0].mean() - (samples[1].mean() if others is not None else 0.0)
    if sum(parts) + more == 0:
        return float(difference), float(difference)
    unsure = sum(part**2 / (len(s) - 1) for part, s in zip(parts, samples, strict=True))
    freedom = (sum(parts) + more) ** 2 / unsure if unsure else math.inf
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * math.sqrt(sum(parts) + more)
    return float(difference - half), float(difference + half)


def sign_test(gains: Sequence[float]) -> float:
    """Two-sided sign test of gains against "as often up as down".

    Args:
        gains: Sequence of numbers; zeros are left out.

    Returns:
        The p-value; 1 where no gain is left.
    """
    from scipy import stats

    up, down = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    return float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
