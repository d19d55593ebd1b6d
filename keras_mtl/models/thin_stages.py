"""Thin stages: the best selection of units from wide, trained ones."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from keras_mtl._types import Stages, Structure
from keras_mtl.models._arguments import check_inputs, check_stages
from keras_mtl.models._copies import built_copy


def select_columns(matrix: npt.ArrayLike, count: int) -> tuple[list[int], np.ndarray]:
    """Columns of a matrix that span the others best, found greedily.

    Simultaneous orthogonal matching pursuit of `min ||W - W_S A||` over sets S
    of `count` columns: each step takes the column that has most in common with
    what is left, `argmax_j sum_c |w_j . r_c| / ||w_j||`, and solves for A anew.

    Args:
        matrix: Array W of shape `(rows, columns)`.
        count: Integer. How many columns.

    Returns:
        Tuple `(S, A)`: a sorted array of `count` column numbers, and an array
        of shape `(count, columns)`.

    Example:

    >>> from keras_mtl.models.thin_stages import select_columns
    >>> columns, mix = select_columns(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]), 2)
    >>> bool(np.allclose(np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])[:, columns] @ mix, [[1, 0, 2], [0, 1, 0]]))
    True

    Reference:

    - Y. Lu et al., "Fully-adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute
      Classification", CVPR 2017.
    """
    matrix = np.asarray(matrix, "float64")
    if not 1 <= count <= matrix.shape[1]:
        raise ValueError(f"`count` should be from 1 to the {matrix.shape[1]} columns. Received: count={count!r}")
    lengths = np.maximum(np.linalg.norm(matrix, axis=0), 1e-12)
    chosen, left = [], matrix
    for _ in range(count):
        scores = np.abs(matrix.T @ left).sum(axis=1) / lengths
        scores[chosen] = -1.0
        chosen.append(int(scores.argmax()))
        mix = np.linalg.lstsq(matrix[:, chosen], matrix, rcond=None)[0]
        left = matrix - matrix[:, chosen] @ mix
    chosen = np.sort(chosen)
    return chosen, np.linalg.lstsq(matrix[:, chosen], matrix, rcond=None)[0]


def thin_stages(inputs: Structure, stages: Stages, keep: float) -> list[list[keras.Layer]]:
    """Makes stages with fewer channels from trained ones.

    Each `Dense` or convolution keeps the filters that span all of its filters
    best (`select_columns`), and how the others are made of them is folded into
    the next layer's weights. Activations lie between, so the outputs are near
    those of the wide stages, not equal.

    Args:
        inputs: `keras.Input` that the first stage takes.
        stages: List of built Keras layers (or lists of layers): `Dense`,
            `Conv1D` and `Conv2D` with channels last and without groups,
            `BatchNormalization`, layers without weights and, before the first
            of these, layers that do not train.
        keep: Float above 0 and at most 1, the share of each layer's channels,
            or a dict from layer name to their number; layers that are left out
            of it keep all.

    Returns:
        List of lists of built layers, for a builder with `copy_weights=True`.

    Raises:
        ValueError: If a layer is not built or of a kind that cannot be
            thinned.

    Example:

    >>> wide = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(8, "relu")])
    >>> thin = keras_mtl.models.thin_stages(keras.Input((4,)), wide.layers, keep=0.5)
    >>> [tuple(stack[0].kernel.shape) for stack in thin]
    [(4, 8), (8, 4)]

    Reference:

    - Y. Lu et al., "Fully-adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute
      Classification", CVPR 2017.
    """
    check_inputs(inputs)
    stacks = check_stages(stages)
    state = {"kept": None, "mix": None, "tensor": inputs}
    return [[_thinned(layer, keep, state) for layer in stack] for stack in stacks]


def _thinned(layer: keras.Layer, keep: float, state: dict[str, Any]) -> keras.Layer:
    config = {**layer.get_config(), "name": layer.name}
    if isinstance(layer, (layers.Dense, layers.Conv1D, layers.Conv2D)):
        thin, weights = _thin_product(layer, config, keep, state)
    elif isinstance(layer, layers.BatchNormalization):
        thin = type(layer).from_config(config)
        places = state["kept"] if state["kept"] is not None else slice(None)
        weights = [w[places] for w in layer.get_weights()]
    else:
        # What does not train, such as an adapted `Normalization`, stays as it is where no layer below was thinned.
        kept = not layer.trainable_weights and state["kept"] is None
        thin = type(layer).from_config(config)
        thin = built_copy(layer, thin) if kept else thin
        weights = thin.get_weights() if kept else []
    state["tensor"] = thin(state["tensor"])
    if len(weights) != len(thin.weights):
        raise ValueError(
            f"Layer '{layer.name}' should be a Dense, Conv1D, Conv2D or BatchNormalization layer, or have no weights. "
            f"Received: {type(layer).__name__}"
        )
    thin.set_weights(weights)
    return thin


def _thin_product(
    layer: keras.Layer, config: dict[str, Any], keep: float, state: dict[str, Any]
) -> tuple[keras.Layer, list[np.ndarray]]:
    if not layer.built or getattr(layer, "groups", 1) != 1 or config.get("data_format") == "channels_first":
        raise ValueError(f"Layer '{layer.name}' should be built, with channels last and without groups.")
    kernel, *bias = layer.get_weights()
    if state["mix"] is not None:
        # After a `Flatten` each position has its channels next to each other.
        channels = state["mix"].shape[1]
        split = kernel.reshape(*kernel.shape[:-2], -1, channels, kernel.shape[-1])
        kernel = np.einsum("kc,...pco->...pko", state["mix"], split).reshape(*kernel.shape[:-2], -1, kernel.shape[-1])
    size, width = kernel.shape[-1], "units" if "units" in config else "filters"
    count = keep.get(layer.name, size) if isinstance(keep, dict) else max(1, round(keep * size))
    state["kept"], state["mix"] = select_columns(kernel.reshape(-1, size), count)
    config[width] = count
    return type(layer).from_config(config), [kernel[..., state["kept"]], *(b[state["kept"]] for b in bias)]
