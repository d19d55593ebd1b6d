"""Samplers that go by the sizes of the data sets: proportional, tempered, annealed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._checks import is_integer
from keras_mtl.data.samplers.base import Sampler

if TYPE_CHECKING:
    from keras_mtl.data.task_stats import TaskStats


class Temperature(Sampler):
    """Larger data sets come more often, but not by all that they are larger.

    `p_k ∝ min(n_k, cap)^(1 / T)` with the number of examples `n_k`: `T = 1` is
    by size, large `T` nearly uniform.

    Args:
        temperature: Float of at least 1. Defaults to `2.0`.
        cap: Number. Sets count as no larger than this. Defaults to `None`.

    Raises:
        ValueError: If an argument is out of its range, or the size of a data
            set is not known or not finite.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 900, "b": 100})
    >>> keras_mtl.data.Temperature(2.0).probabilities(0, stats)
    array([0.75, 0.25])

    References:
        - Raffel et al., "Exploring the Limits of Transfer Learning with a
          Unified Text-to-Text Transformer", JMLR 21, 2020, section 3.5.2.
        - Clark et al., "BAM! Born-Again Multi-Task Networks for Natural
          Language Understanding", ACL 2019, which takes the power 0.75, that
          is `T = 4 / 3`.
    """

    reads = "nothing"

    def __init__(self, temperature: float = 2.0, cap: float | None = None) -> None:
        if not temperature >= 1:
            raise ValueError(f"`temperature` should be at least 1. Received: temperature={temperature}")
        if cap is not None and not cap > 0:
            raise ValueError(f"`cap` should be above 0. Received: cap={cap}")
        self.temperature = temperature
        self.cap = cap

    def prepare(self, stats: TaskStats) -> None:
        for task, size in zip(stats.tasks, stats.sizes, strict=True):
            if not np.isfinite(size):
                raise ValueError(
                    f"{type(self).__name__} goes by the sizes of the data sets, and that of task '{task}' should be "
                    "finite and known: `dataset.apply(tf.data.experimental.assert_cardinality(n))` states it. "
                    f"Received: {'an endless one' if np.isinf(size) else 'one of unknown size'}"
                )

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        return self.by_power(stats, 1 / self.temperature)

    def by_power(self, stats: TaskStats, power: float) -> np.ndarray:
        """`min(n, cap)^power`, 1 in sum."""
        sizes = stats.sizes if self.cap is None else np.minimum(stats.sizes, self.cap)
        rates = (sizes / sizes.max()) ** power
        return rates / rates.sum()


class Proportional(Temperature):
    """Every example is as likely as any other: `p_k ∝ min(n_k, cap)`.

    Args:
        cap: Number. Sets count as no larger than this. Defaults to `None`.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 900, "b": 100})
    >>> keras_mtl.data.Proportional().probabilities(0, stats)
    array([0.9, 0.1])
    """

    def __init__(self, cap: float | None = None) -> None:
        super().__init__(temperature=1.0, cap=cap)


class Annealed(Temperature):
    """Begins by size and ends nearly uniform.

    In epoch `e = 1, ..., E`: `p_k ∝ min(n_k, cap)^a` with
    `a = 1 - 0.8 (e - 1) / (E - 1)`, so the first epoch goes by size and the
    last one by the power 0.2.

    Args:
        epochs: Integer E. After so many epochs the power stays at 0.2.
        cap: Number. Sets count as no larger than this. Defaults to `None`.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 900, "b": 100}, steps_per_epoch=10)
    >>> annealed = keras_mtl.data.Annealed(epochs=3)
    >>> [annealed.probabilities(step, stats).round(3).tolist() for step in (0, 9, 10, 29)]
    [[0.9, 0.1], [0.9, 0.1], [0.789, 0.211], [0.608, 0.392]]

    Reference:

    - Stickland and Murray, "BERT and PALs: Projected Attention Layers for
      Efficient Adaptation in Multi-Task Learning", ICML 2019.

    Deviations: `cap`, and what follows epoch E, are ours.
    """

    reads = "step"

    def __init__(self, epochs: int, cap: float | None = None) -> None:
        super().__init__(cap=cap)
        if not is_integer(epochs) or epochs < 1:
            raise ValueError(f"`epochs` should be an integer of at least 1. Received: epochs={epochs!r}")
        self.epochs = epochs

    def probabilities(self, step: int, stats: TaskStats) -> np.ndarray:
        epoch = min(step // stats.steps_per_epoch, self.epochs - 1)  # type: ignore[operator]
        return self.by_power(stats, 1 - 0.8 * epoch / max(self.epochs - 1, 1))
