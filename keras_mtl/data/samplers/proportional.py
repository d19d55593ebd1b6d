"""By size."""

from keras_mtl.data.samplers.temperature import Temperature


class Proportional(Temperature):
    """Every example is as likely as any other: `p_k ∝ min(n_k, cap)`.

    Args:
        cap: Number. Sets count as no larger than this. Defaults to `None`.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 900, "b": 100})
    >>> keras_mtl.data.Proportional().probabilities(0, stats)
    array([0.9, 0.1])
    """

    def __init__(self, cap=None):
        super().__init__(temperature=1.0, cap=cap)
