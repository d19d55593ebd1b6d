"""Fresh inputs, layers and metrics for every trial of a search."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import keras

from keras_mtl._types import Structure
from keras_mtl.models._copies import built_copy


def fresh_inputs(inputs: keras.KerasTensor) -> keras.KerasTensor:
    """Inputs of the same shapes, types and names, in the same structure."""
    return keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name, sparse=x.sparse), inputs
    )


def fresh_layer(layer: keras.Layer, change: Callable[..., Any] | None = None, weights: bool = True) -> keras.Layer:
    """A layer from another one's config, with its state.

    Args:
        layer: Keras layer.
        change: Function of the config that returns another one. Defaults to
            `None`.
        weights: Boolean. Whether it starts from the weights of the layer, if
            that has some. Defaults to `True`.

    Returns:
        A Keras layer.
    """
    config = copy.deepcopy(layer.get_config())
    return built_copy(layer, type(layer).from_config(config if change is None else change(config)), weights)


def fresh_metrics(value: Structure) -> Structure:
    """The same, with metrics that have no state of an earlier trial."""
    if isinstance(value, keras.metrics.Metric):
        return type(value).from_config(value.get_config())
    if isinstance(value, dict):
        return {key: fresh_metrics(item) for key, item in value.items()}
    return [fresh_metrics(item) for item in value] if isinstance(value, (list, tuple)) else value
