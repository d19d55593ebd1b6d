"""The types that annotations name: what every builder, weighting and trainer takes and gives.

Keras itself is not typed, so several of these are `Any` underneath: the names say what is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

if TYPE_CHECKING:
    from keras_mtl.models.dependency import Dependency

Tensor: TypeAlias = Any
"""What `keras.ops` take and give: a tensor of the backend, eager or symbolic, a Keras tensor or a variable."""

Structure: TypeAlias = Any
"""A tensor, an array or another leaf; or lists, tuples and dicts of them, as `keras.tree` knows them."""

Data: TypeAlias = Any
"""What `fit` takes: arrays or structures of them, a `tf.data.Dataset`, a `PyDataset`, or a tuple `(x, y, ...)`."""

Shape: TypeAlias = tuple[Any, ...]
"""The sizes of a tensor's axes: integers, and `None` where a size is not known."""

Inputs: TypeAlias = keras.KerasTensor | Sequence[keras.KerasTensor] | Mapping[str, keras.KerasTensor]
"""The inputs of a functional model: one `keras.Input`, or a list or dict of them."""

Tasks: TypeAlias = Collection[str]
"""Names of tasks."""

Layers: TypeAlias = keras.Layer | Sequence[keras.Layer]
"""A Keras layer, or a list of layers that are called one after the other."""

Stages: TypeAlias = Sequence[Layers]
"""The parts of a trunk, in the order in which data passes them."""

Heads: TypeAlias = Mapping[str, Layers]
"""From each task to the layers that only it has."""

DependsOn: TypeAlias = "Mapping[str, str | Dependency | Sequence[str | Dependency]]"
"""From a task to what its head takes beside the features: the outputs of other tasks."""

LossLike: TypeAlias = str | Mapping[str, Any] | keras.losses.Loss | Callable[..., Any]
"""A loss as Keras' `compile` takes it: a name, a config, an object or a function."""

MetricLike: TypeAlias = str | Mapping[str, Any] | keras.metrics.Metric | Callable[..., Any]
"""A metric as Keras' `compile` takes it: a name, a config, an object or a function."""

Callbacks: TypeAlias = keras.callbacks.Callback | keras.callbacks.CallbackList | Sequence[keras.callbacks.Callback]
"""Callbacks as `fit` takes them."""

Logs: TypeAlias = dict[str, Any]
"""The logs that callbacks are given; they may add to them."""

Place: TypeAlias = Any
"""Where a step's task gradients are taken: an object of `keras_mtl.training.places`, after its forward pass."""
