"""Yeast: 2,417 genes with 14 groups of functions, several at once.

The package river carries the table as a file (A. Elisseeff, J. Weston, NIPS 2001; data of the Mulan library). The
package is not imported.
"""

import gzip

import numpy as np

from .files import CACHE, cached, package_file

INPUTS, LABELS = 103, 14
TRAIN = 1500  # the usual split: the first 1,500 genes to train on, the other 917 to test on


def read_table(path):
    """Reads the file: a dict of "inputs", of shape (2417, 103), and "labels", of shape (2417, 14)."""
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1, dtype="float32")
    if table.shape[1] != INPUTS + LABELS:
        raise ValueError(f"The table of yeast genes should have {INPUTS + LABELS} columns. Received: {table.shape[1]}")
    return {"inputs": table[:, :INPUTS], "labels": table[:, INPUTS:]}


def load(cache=CACHE):
    """The table, read once and then kept in `cache`. Returns what `read_table` does."""
    return cached(cache, "yeast", lambda: read_table(package_file("river", "datasets", "yeast.csv.gz")))


def yeast(known=1.0, seed=0, arrays=None):
    """Genes of both splits, with a part of the training labels taken away.

    Args:
        known: Float above 0, at most 1. The part of the training labels that stays, of the group in the middle: from
            group to group, in random order, the part goes down by one factor, from 1 to `known ** 2`. Defaults to 1.
        seed: Integer. Which labels stay. Defaults to 0.
        arrays: What `load` returns. Defaults to that.

    Returns:
        Dict from split ("train", "test") to `(inputs, labels)`: inputs of shape (n, 103), standardized by the training
        genes, and labels of shape (n, 14), 0, 1 or NaN where they were taken away.
    """
    arrays = load() if arrays is None else arrays
    inputs, labels = arrays["inputs"], arrays["labels"].copy()
    count = len(inputs) * TRAIN // 2417
    inputs = (inputs - inputs[:count].mean(axis=0)) / inputs[:count].std(axis=0)
    rng = np.random.default_rng(seed)
    rates = rng.permutation(known ** np.linspace(0, 2, labels.shape[1]))
    away = rng.random((count, labels.shape[1])) >= rates
    labels[:count][away] = np.nan
    return {"train": (inputs[:count], labels[:count]), "test": (inputs[count:], labels[count:])}
