"""The drift of units between columns from their start."""

import numpy as np
import numpy.typing as npt


def unit_drift(coefficients: npt.ArrayLike, start: npt.ArrayLike) -> float:
    """Root mean square of the change of a unit's coefficients.

    `sqrt(mean_i (a_i - a0_i)^2)`: 0 where the unit is as it was built. The
    mean over all entries keeps wide and narrow units comparable.

    Args:
        coefficients: Array of the unit's coefficients, such as
            `model.sharing_coefficients()` gives.
        start: Array of the same shape. What they were before training.

    Returns:
        Float of at least 0.

    Raises:
        ValueError: If the shapes differ.

    Example:

    >>> keras_mtl.metrics.unit_drift([0.9, 0.1], start=[0.9, 0.1])
    0.0
    """
    now, before = np.asarray(coefficients), np.asarray(start)
    if now.shape != before.shape:
        raise ValueError(f"`start` should have the coefficients' shape, {now.shape}. Received: shape {before.shape}")
    change = (now - before.astype(now.dtype)).astype("float64")  # what float32 cannot hold is no drift
    return float(np.sqrt(np.mean(change**2)))
