"""By hand."""

from keras_mtl.data._chooser import checked
from keras_mtl.data.samplers.base import Sampler


class Fixed(Sampler):
    """Probabilities by hand. A plain dict given as `sampler` means the same.

    Args:
        probabilities: Dict from task to probability, 1 in sum.

    Raises:
        ValueError: If tasks are missing or unknown, or the sum is not 1.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 30, "b": 10})
    >>> keras_mtl.data.Fixed({"a": 0.4, "b": 0.6}).probabilities(0, stats)
    array([0.4, 0.6])
    """

    reads = "nothing"

    def __init__(self, probabilities):
        self.given = dict(probabilities)

    def prepare(self, stats):
        checked(self.given, stats.tasks, self)

    def probabilities(self, step, stats):
        return checked(self.given, stats.tasks, self)
