"""Made-up problems whose right answer is known: who should share with whom."""

import numpy as np

from .arrays import scaled, split_at

KINDS = {  # the group of hidden features that each task reads; "n" is noise alone
    "related": "aa",
    "unrelated": "ab",
    "groups": "aabb",
    "starved": "aa",
    "few labels": "aa",
    "noise": "aan",
}
# Widths at which it matters: a trunk that holds all features of one group, but not well those of two.
WIDTHS = {"related": 8, "unrelated": 4, "groups": 6, "starved": 8, "few labels": 8, "noise": 6}

# With 60, sharing would not pay for "few labels" in these epochs: its few labels would make fewer steps.
BATCHES = {kind: 30 if kind == "few labels" else 60 for kind in KINDS}


def planted(kind, seed=0, train=600, test=1000):
    """Regressions on four hidden features of their group, with a fifth of noise.

    Args:
        kind: String. A key of `KINDS`.
        seed: Integer. Which features and examples. Defaults to 0.
        train: Integer. Number of training examples.
        test: Integer. Number of test examples.

    Returns:
        Tuple of training and test data, each `(x, y)`: inputs of shape (n, 20), and a dict from task ("a", "b", ...) to
        labels of shape (n, 1). In "starved", labels of "a" are a hundred times those of "b"; in "few labels", "b" has
        60 training labels, the others being NaN.
    """
    rng = np.random.default_rng(seed)
    hidden = {group: rng.normal(size=(20, 4)) / np.sqrt(20) for group in "ab"}
    x = rng.normal(size=(train + test, 20)).astype("float32")
    y = {}
    for task, group in zip("abcd", KINDS[kind], strict=False):
        values = rng.normal(size=(train + test, 1))
        if group != "n":
            clean = np.tanh(2 * x @ hidden[group]) @ rng.normal(size=(4, 1))
            values = scaled(clean) + 0.2 * values
        y[task] = values.astype("float32")
    if kind == "few labels":
        y["b"][60:train] = np.nan
    if kind == "starved":
        y["a"] *= 100
    return split_at((x, y), train)
