"""Checks that a model fits the data of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from keras_mtl._keras_private import layers_of
from keras_mtl.layers import SafeBatchNormalization

if TYPE_CHECKING:
    from keras_mtl.data._schema import Schema
    from keras_mtl.models.multi_task_model import MultiTaskModel

NEED_A_ROW = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
    keras.layers.STFTSpectrogram,
    keras.layers.MelSpectrogram,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.AdaptiveMaxPooling1D,
    keras.layers.AdaptiveMaxPooling2D,
    keras.layers.AdaptiveMaxPooling3D,
)


def check_normalization(model: MultiTaskModel, schema: Schema, absent: bool, training: bool) -> None:
    """Raises where a model and the data of a mixture do not fit.

    Args:
        model: A compiled `MultiTaskModel`.
        schema: `Schema`.
        absent: Boolean. Whether batches may lack tasks.
        training: Boolean. Whether the model trains on them.
    """
    for task in schema.tasks:
        for label in schema.labels_of[task]:
            if label not in model.tasks:
                raise ValueError(
                    f"The labels in the data set of task '{task}' should be of the model's tasks, {model.tasks}. "
                    f"Received: '{label}'"
                )
            _check_inputs(model, task, label, schema.inputs_of[task])
    if absent and len(schema.groups()) > 1:
        for layer in layers_of(model):
            if schema.absent_rows == 0:
                _check_needs_a_row(layer)
            if training:
                _check_normalization(layer)


def _check_inputs(model: MultiTaskModel, task: str, label: str, given: Sequence[str | None]) -> None:
    needed = model.sharing.inputs_of(label)
    if None in given or not isinstance(needed, dict):
        if len(model.inputs) > 1:
            raise ValueError(
                f"The data set of task '{task}' should give its inputs by name, as a dict, since the model has "
                f"{len(model.inputs)} inputs. Received: {'no names' if None in given else list(given)}"
            )
        return
    missing = [name for name in needed if name not in given]
    if missing:
        raise ValueError(
            f"The data set of task '{task}' should have the inputs of '{label}', {list(needed)}. Received: "
            f"{list(given)}, without {missing}"
        )


def _check_needs_a_row(layer: keras.Layer) -> None:
    # On CPU TensorFlow's convolutions give an empty batch the shape that it came in with, and the gradient of a max
    # pooling ends the process.
    if isinstance(layer, NEED_A_ROW):
        raise ValueError(
            f"`absent_rows` of the mixture should be 1, since layer '{layer.name}' would see empty batches, which "
            "TensorFlow's convolutions and max pooling do not take on every device. Received: absent_rows=0"
        )


def _check_normalization(layer: keras.Layer) -> None:
    plain = isinstance(layer, keras.layers.BatchNormalization) and not isinstance(layer, SafeBatchNormalization)
    if plain and layer.trainable:
        raise ValueError(
            f"Layer '{layer.name}' would normalize batches without examples, since tasks with inputs of their own take "
            "turns, and its statistics would be wrong. It should be a `keras_mtl.layers.SafeBatchNormalization`, or "
            "have trainable=False"
        )
