"""One after the other."""

import numpy as np

from keras_mtl.data.samplers.base import Sampler


class RoundRobin(Sampler):
    """The tasks come one after the other, in their order.

    Example:

    >>> stats = keras_mtl.data.TaskStats({"a": 30, "b": 10})
    >>> [int(np.argmax(keras_mtl.data.RoundRobin().probabilities(step, stats))) for step in range(4)]
    [0, 1, 0, 1]
    """

    reads = "step"

    def probabilities(self, step, stats):
        return np.eye(len(stats.tasks))[step % len(stats.tasks)]

    def rates(self, stats):
        return np.full(len(stats.tasks), 1 / len(stats.tasks))
