"""Regressions in two planted groups, for trees and for policies."""

import numpy as np

from .arrays import rows_of, scaled

INPUTS, WIDTH, TRAIN, TEST = 20, 6, 4000, 1000
OWN = 0.4  # strength of a task's own features beside its group's
TREES, POLICIES = {"a": 3, "b": 3}, {"a": 2, "b": 1}  # tasks of each group
LAYERS = 3


def features(x, count, rng):
    """Random directions of the inputs, through tanh."""
    return np.tanh(x @ rng.normal(size=(INPUTS, count)) * 1.5 / np.sqrt(INPUTS))


def parts(x, noisy, clean):
    """`(train, test)`, of which the test labels have no noise."""
    noisy, clean = ({task: y[:, None].astype("float32") for task, y in of.items()} for of in (noisy, clean))
    return rows_of((x, noisy), slice(TRAIN)), rows_of((x, clean), slice(TRAIN, None))


def make_data(seed):
    """Data of trees: `(train, test)`; tasks are named `<group>_<number>`.

    Half of the training examples have labels that are wrong by about 1, for each group another half.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
    noisy, clean = {}, {}
    for group, size in TREES.items():
        common = features(x, WIDTH, rng)
        noise = np.where(x @ rng.normal(size=INPUTS) > 0, 1.0, 0.1)
        for task in (f"{group}_{number}" for number in range(size)):
            of_group = scaled(common @ rng.normal(size=WIDTH))
            clean[task] = scaled(of_group + OWN * scaled(features(x, 2, rng) @ rng.normal(size=2)))
            wrong = rng.choice([-1, 1], len(x)) * rng.uniform(0.8, 1.2, len(x))
            noisy[task] = clean[task] + noise * wrong
    return parts(x, noisy, clean)


def make_deep_data(seed):
    """Data of policies: as `make_data`, of residual layers, with little noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(TRAIN + TEST, INPUTS)).astype("float32")
    noisy, clean = {}, {}
    for group, size in POLICIES.items():
        found = x @ rng.normal(size=(INPUTS, WIDTH)) / np.sqrt(INPUTS)
        for _ in range(LAYERS):
            found = found + np.tanh(2.25 * found @ rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH))
        for task in (f"{group}_{number}" for number in range(size)):
            clean[task] = scaled(found @ rng.normal(size=WIDTH))
            noisy[task] = clean[task] + 0.1 * rng.normal(size=len(x))
    return parts(x, noisy, clean)
