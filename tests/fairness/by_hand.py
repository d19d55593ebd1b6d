"""Two tasks with a group, and penalties worked out in NumPy."""

import itertools

import keras
import numpy as np
from keras import layers

import keras_mtl
from keras_mtl.fairness import CovariancePenalty, MMDPenalty, ParityPenalty

RNG = np.random.default_rng(0)
N = 24
X = RNG.normal(size=(N, 3)).astype("float32")
SEX = RNG.integers(0, 2, N)
Y = {"hired": RNG.integers(0, 2, N), "paid": RNG.integers(0, 2, N), "sex": SEX}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def parity_by_hand(p, groups):
    means = [p[groups == g].mean() for g in np.unique(groups)]
    return max(means) - min(means)


def covariance_by_hand(p, groups):
    return max(abs(np.cov(groups == g, p, bias=True)[0, 1]) for g in np.unique(groups))


def mmd_by_hand(p, groups, bandwidth=0.1):
    def kernel(s, t):
        return np.exp(-((s - t) ** 2) / (2 * bandwidth**2))

    def mean(a, b):
        pairs = [(i, j) for i in a for j in b if i != j]
        return np.mean([kernel(p[i], p[j]) for i, j in pairs])

    found = []
    for g, h in itertools.combinations(np.unique(groups), 2):
        a, b = np.flatnonzero(groups == g), np.flatnonzero(groups == h)
        found.append(mean(a, a) + mean(b, b) - 2 * mean(a, b))
    return max(found)


BY_HAND = {ParityPenalty: parity_by_hand, CovariancePenalty: covariance_by_hand, MMDPenalty: mmd_by_hand}


def build(**options):
    """Two tasks on a fixed linear map, so that what moves is the heads' kernels alone."""
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((3,)),
        [layers.Dense(3, use_bias=False, name="fc")],
        {
            task: layers.Dense(1, use_bias=False, activation="sigmoid", name="out", kernel_initializer=start(task))
            for task in ("hired", "paid")
        },
    )
    # Eagerly, since tracing takes longer than the one step that most tests take.
    given = {"optimizer": keras.optimizers.SGD(0.5), "loss": "binary_crossentropy", "run_eagerly": True}
    model.compile(**given | options)
    return model


def start(task):
    return keras.initializers.Constant([[1.0], [-0.5], [0.3]] if task == "hired" else [[-0.2], [0.1], [0.7]])


def fit(model, y=Y, **options):
    history = model.fit(X, y, **{"batch_size": N, "shuffle": False, "verbose": 0, **options}).history
    return {name: values[-1] for name, values in history.items()}


def variables(model):
    return {v.path: v.numpy() for v in model.trainable_variables}
