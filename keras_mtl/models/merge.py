"""Models that were fine-tuned apart, merged into one: task arithmetic and TIES."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_mtl._checks import check_number
from keras_mtl.models._copies import built_copy, copy_layer

METHODS = ("ties", "arithmetic")
_SCALES = {"ties": 1.0, "arithmetic": 0.4}


def merge(
    base: keras.Layer,
    tuned: Mapping[str, keras.Layer],
    *,
    method: Literal["ties", "arithmetic"] = "ties",
    scale: float | None = None,
    keep: float = 0.2,
) -> keras.Layer:
    """Merges layers that were fine-tuned from one, such as trunks of single-task models, without training.

    With the changes `t_k = W_k - W` of K tasks, the merged weights are `W + scale * m`.

    `method="arithmetic"`: `m = sum_k t_k`; `scale=1/K` is the mean of the weights.

    `method="ties"`: of every `t_k` all but the `keep` largest of its entries become 0; the sign of each entry is
    that of their sum over the tasks; m is the mean of those entries that have this sign and are not 0.

    Statistics that layers keep besides, such as those of a batch normalization, become the tasks' means.

    Args:
        base: Built Keras layer or model, with the weights that all tasks started from.
        tuned: Dict from task to a layer or model like `base`, with the weights after training.
        method: `"ties"` or `"arithmetic"`. Defaults to `"ties"`.
        scale: Float. Defaults to `None`: 1.0 for TIES, 0.4 for arithmetic, what Yadav et al. use where there is no
            validation data to choose it by.
        keep: Float from 0 to 1. Fraction of each task's entries that TIES keeps. Defaults to 0.2.

    Returns:
        A new layer or model like `base`. Heads are not merged: give it as a stage to a builder, with the heads of
        the single-task models.

    Raises:
        ValueError: If `base` is not built, there are fewer than two tasks, weights differ in number or shape, or
            an option is out of its range.

    Example:

    >>> base, left, right = (keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)]) for _ in range(3))
    >>> for layer, row in ((base, [0, 0, 0]), (left, [1, 2, -3]), (right, [1, -4, 0])):
    ...     layer.set_weights([np.array([row], "float32"), np.zeros(3, "float32")])
    >>> merged = keras_mtl.merge(base, {"left": left, "right": right}, keep=1.0)
    >>> merged.get_weights()[0].tolist()  # where signs differ, the larger sum wins
    [[1.0, -4.0, -3.0]]

    References:

    - G. Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023, arXiv:2212.04089.
    - P. Yadav et al., "TIES-Merging: Resolving Interference When Merging Models", NeurIPS 2023, arXiv:2306.01708.

    Deviations: where kept entries cancel exactly, TIES' sign is that of no task, and m is 0 there.
    """
    if method not in METHODS:
        raise ValueError(f"`method` should be one of {METHODS}. Received: method={method!r}")
    keep = check_number(keep, "keep", above=0, most=1)
    scale = _SCALES[method] if scale is None else check_number(scale, "scale")
    pairs = _pairs(base, tuned)
    changes = _changes(pairs)
    total = changes.sum(axis=0) if method == "arithmetic" else _ties(changes, keep)
    merged = built_copy(base, copy_layer(base, "merged"))
    start = 0
    for (variable, others, trained), target in zip(pairs, merged.variables, strict=True):
        value = keras.ops.convert_to_numpy(variable.value)
        if trained:
            step = total[start : start + value.size].reshape(value.shape)
            start += value.size
            target.assign((value.astype("float64") + scale * step).astype(value.dtype))
        elif np.issubdtype(value.dtype, np.floating):
            target.assign(np.mean([keras.ops.convert_to_numpy(v.value) for v in others], axis=0))
    return merged


def merge_conflicts(base: keras.Layer, tuned: Mapping[str, keras.Layer]) -> dict[str, Any]:
    """How much the changes of models stand in each other's way, before they are merged.

    Args:
        base: As `merge` takes it.
        tuned: As `merge` takes it.

    Returns:
        Dict of `tasks`, a list of K names; `cosines`, an array of shape `(K, K)` of the cosines between the tasks'
        changes; `lengths`, the Euclidean length of each change; and `cancelled`, the part of the changes' absolute
        values that cancels in their sum, from 0, no conflict, to 1.

    Raises:
        ValueError: As `merge`.

    Example:

    >>> base, left, right = (keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)]) for _ in range(3))
    >>> for layer, row in ((base, [0, 0]), (left, [3, 4]), (right, [3, -4])):
    ...     layer.set_weights([np.array([row], "float32"), np.zeros(2, "float32")])
    >>> found = keras_mtl.merge_conflicts(base, {"left": left, "right": right})
    >>> found["cosines"].round(2).tolist(), round(found["cancelled"], 3)  # (9 - 16) / 25, 8 / 14
    ([[1.0, -0.28], [-0.28, 1.0]], 0.571)
    """
    changes = _changes(_pairs(base, tuned))
    lengths = np.linalg.norm(changes, axis=1)
    unit = changes / np.where(lengths > 0, lengths, 1.0)[:, None]
    whole = np.abs(changes).sum()
    left = np.abs(changes.sum(axis=0)).sum()
    return {
        "tasks": list(tuned),
        "cosines": unit @ unit.T,
        "lengths": lengths,
        "cancelled": float(1.0 - left / whole) if whole > 0 else 0.0,
    }


def _ties(changes: np.ndarray, keep: float) -> np.ndarray:
    count = max(1, round(keep * changes.shape[1]))
    sizes = np.abs(changes)
    least = np.partition(sizes, -count, axis=1)[:, -count, None]
    trimmed = np.where(sizes >= least, changes, 0.0)
    agree = np.sign(trimmed) == np.sign(trimmed.sum(axis=0))
    agree &= trimmed != 0
    return np.where(agree, trimmed, 0.0).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)


def _changes(pairs: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """The tasks' changes of all trained weights, as float64 array of shape `(K, P)`."""
    number = keras.ops.convert_to_numpy
    parts = [
        np.stack([np.ravel(number(v.value).astype("float64") - number(variable.value)) for v in others])
        for variable, others, trained in pairs
        if trained
    ]
    return np.concatenate(parts, axis=1)


def _pairs(base: keras.Layer, tuned: Mapping[str, keras.Layer]) -> list[tuple[Any, ...]]:
    """Each variable of the base with those of the tasks in its place, and whether training changes it."""
    if not isinstance(tuned, dict) or len(tuned) < 2:
        raise ValueError(f"`tuned` should be a dict from two tasks or more to layers. Received: tuned={tuned!r}")
    for what, layer in [("`base`", base), *((f"`tuned['{task}']`", layer) for task, layer in tuned.items())]:
        if not isinstance(layer, keras.layers.Layer) or not layer.built or not layer.weights:
            raise ValueError(f"{what} should be a built Keras layer or model that has weights. Received: {layer!r}")
    shapes = [tuple(v.shape) for v in base.variables]
    for task, layer in tuned.items():
        others = [tuple(v.shape) for v in layer.variables]
        if others != shapes:
            place = next((i for i, (a, b) in enumerate(zip(shapes, others, strict=False)) if a != b), None)
            what = f"{len(others)} variables" if place is None else f"shape {others[place]}"
            like = f"{len(shapes)}" if place is None else f"{shapes[place]} of '{base.variables[place].path}'"
            raise ValueError(f"`tuned['{task}']` should be like `base`. Received: {what} in place of {like}")
    weights = {id(v) for layer in (base, *tuned.values()) for v in layer.trainable_variables}
    columns = zip(base.variables, *(layer.variables for layer in tuned.values()), strict=True)
    pairs = [(first, others, any(id(v) in weights for v in (first, *others))) for first, *others in columns]
    if not any(trained for *_, trained in pairs):
        raise ValueError("`base` and `tuned` should have trainable weights. Received: none")
    return pairs
