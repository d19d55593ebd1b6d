"""All tasks alike."""

import numpy as np

from keras_mtl.data.samplers.base import Sampler


class Uniform(Sampler):
    """Every task is as likely as any other: `p_k = 1 / K`.

    Example:

    >>> keras_mtl.data.Uniform().probabilities(0, keras_mtl.data.TaskStats({"a": 30, "b": 10}))
    array([0.5, 0.5])
    """

    reads = "nothing"

    def probabilities(self, step, stats):
        del step
        return np.full(len(stats.tasks), 1 / len(stats.tasks))
