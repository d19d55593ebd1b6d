"""From by size to nearly uniform."""

from keras_mtl._checks import is_integer
from keras_mtl.data.samplers.temperature import Temperature


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

    def __init__(self, epochs, cap=None):
        super().__init__(cap=cap)
        if not is_integer(epochs) or epochs < 1:
            raise ValueError(f"`epochs` should be an integer of at least 1. Received: epochs={epochs!r}")
        self.epochs = epochs

    def probabilities(self, step, stats):
        epoch = min(step // stats.steps_per_epoch, self.epochs - 1)
        return self.by_power(stats, 1 - 0.8 * epoch / max(self.epochs - 1, 1))
