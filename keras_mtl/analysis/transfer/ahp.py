"""Analytic hierarchy process: pairwise comparisons as one number each."""

import numpy as np
import numpy.typing as npt

CLIP = 0.001


def win_rates(losses: npt.ArrayLike) -> np.ndarray:
    """How often each of several models is better than each other.

    Args:
        losses: Array of shape `(S, N)`. Losses of S models on the same N
            examples.

    Returns:
        Array of shape `(S, S)`. Entry `[i, j]` is the part of the examples on
        which i has a smaller loss than j; equal losses count half.
    """
    losses = np.asarray(losses, "float64")
    if losses.ndim != 2 or not np.isfinite(losses).all():
        raise ValueError(
            f"`losses` should be finite and of shape (models, examples). Received: shape {losses.shape}, "
            f"{int((~np.isfinite(losses)).sum())} values that are not finite"
        )
    rates = np.full((len(losses), len(losses)), 0.5)
    for i, of_one in enumerate(losses):
        for j in range(i):
            wins = np.mean(of_one < losses[j]) + 0.5 * np.mean(of_one == losses[j])
            rates[i, j], rates[j, i] = wins, 1.0 - wins
    return rates


def ahp(rates: npt.ArrayLike) -> np.ndarray:
    """Turns win rates into affinities that sum to 1.

    With the rates W clipped to 0.001 to 0.999, the affinities are the
    principal eigenvector of the table of odds `W[i, j] / W[j, i]`, normalized
    to sum to 1. They compare sources of one target, however its loss is scaled.

    Args:
        rates: Array of shape `(S, S)`. Entry `[i, j]` is the part of the
            examples on which source i beats source j.

    Returns:
        Array of shape `(S,)`.

    Raises:
        ValueError: If the rates are not a square of numbers from 0 to 1.

    Example:

    >>> keras_mtl.analysis.ahp([[0.5, 0.75], [0.25, 0.5]])
    array([0.75, 0.25])

    References:

    - T. L. Saaty, "A scaling method for priorities in hierarchical structures", J. Math. Psychology 15, 1977.
    - A. R. Zamir et al., "Taskonomy: Disentangling Task Transfer Learning", CVPR 2018, section 3.3.
    """
    rates = np.asarray(rates, "float64")
    if rates.ndim != 2 or rates.shape[0] != rates.shape[1] or not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError(
            f"`rates` should be a square of numbers from 0 to 1. Received: shape {rates.shape}, values from "
            f"{rates.min() if rates.size else '-'} to {rates.max() if rates.size else '-'}"
        )
    clipped = np.clip(rates, CLIP, 1 - CLIP)
    odds = clipped / clipped.T
    values, vectors = np.linalg.eig(odds)
    principal = np.abs(vectors[:, np.argmax(values.real)].real)
    return principal / principal.sum()
