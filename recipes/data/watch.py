"""Shoulder exercises of ten people, seen by a smart watch: 140 series of its accelerometer and gyroscope, at 50 Hz.

The package seglearn carries the series as a file (BSD 3-Clause; D. Burns et al., "Shoulder physiotherapy exercise
recognition", Physiological Measurement 39, 2018). The package is not imported. Each person did each of seven exercises
with each arm, twenty times over.
"""

import numpy as np

from .files import CACHE, cached, package_file

EXERCISES, SUBJECTS, HELD_OUT = 7, 10, 2
LENGTH = 100  # readings of a window: two seconds
EVERY = 5  # of a series, every fifth window is kept back: it shows how well those are known who were seen


def windows(series, exercises, sides, subjects, length=LENGTH):
    """Cuts series into windows that do not overlap.

    Args:
        series: List of arrays of shape (readings, channels).
        exercises: Class of each series.
        sides: 0 or 1 for each series.
        subjects: Number from 0 of the person of each series.
        length: Integer. Readings of a window.

    Returns:
        Dict of arrays with a row for each window: "windows" of shape (n, length, channels), "exercise", "side",
        "subject", and "kept_back", which is 1 in every fifth window of a series.
    """
    found = {"windows": [], "exercise": [], "side": [], "subject": [], "kept_back": []}
    for readings, *labels in zip(series, exercises, sides, subjects, strict=True):
        count = len(readings) // length
        found["windows"].append(np.asarray(readings[: count * length], "float32").reshape(count, length, -1))
        for name, label in zip(("exercise", "side", "subject"), labels, strict=True):
            found[name].append(np.full(count, label, "int32"))
        found["kept_back"].append((np.arange(count) % EVERY == EVERY - 1).astype("int32"))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def load(cache=CACHE):
    """All windows, cut once and then kept in `cache`. Returns what `windows` does."""

    def read():
        table = np.load(package_file("seglearn", "data", "watch_dataset.npy"), allow_pickle=True).item()
        subjects = np.unique(table["subject"], return_inverse=True)[1]
        return windows(table["X"], table["y"], table["side"], subjects)

    return cached(cache, "watch", read)


def watch(seed=0, arrays=None):
    """Windows of every split. Seeds 0 to 4 hold out each person once, 5 to 9 once again, in other pairs.

    Args:
        seed: Integer. Which two people are held out. Defaults to 0.
        arrays: What `load` returns. Defaults to that.

    Returns:
        Dict from split to `(inputs, labels)`: "train" and "seen" are people who were seen in training; "seen" has the
        windows that were kept back. "held_out" are the others. Inputs have mean 0 and variance 1 in training,
        by channel. Labels are a dict with "exercise", "side" and, but for "held_out", "subject", from 0.
    """
    arrays = load() if arrays is None else arrays
    first = HELD_OUT * (seed % (SUBJECTS // HELD_OUT))
    order = np.random.default_rng(seed // (SUBJECTS // HELD_OUT)).permutation(SUBJECTS)
    held_out = np.isin(arrays["subject"], order[first : first + HELD_OUT])
    kept = np.setdiff1d(np.arange(SUBJECTS), order[first : first + HELD_OUT])
    kept_back = arrays["kept_back"] == 1
    masks = {"train": ~held_out & ~kept_back, "seen": ~held_out & kept_back, "held_out": held_out}
    training = arrays["windows"][masks["train"]]
    mean, deviation = training.mean(axis=(0, 1)), training.std(axis=(0, 1))
    splits = {}
    for split, mask in masks.items():
        labels = {task: arrays[task][mask] for task in ("exercise", "side")}
        if split != "held_out":
            labels["subject"] = np.searchsorted(kept, arrays["subject"][mask]).astype("int32")
        splits[split] = ((arrays["windows"][mask] - mean) / deviation, labels)
    return splits
