"""Whether a model and the data of a mixture fit."""

import keras

from keras_mtl.layers import SafeBatchNormalization


def check_model(model, layout, empty):
    """Raises where a model and the data of a mixture do not fit.

    Args:
        model: A compiled `MultiTaskModel`.
        layout: `Layout`.
        empty: Boolean. Whether the model trains on batches that lack tasks.
    """
    for task in layout.tasks:
        if task not in model.tasks:
            raise ValueError(f"The tasks of a mixture should be the model's, {model.tasks}. Received: '{task}'")
        _check_inputs(model, task, layout.inputs_of[task])
    if empty and len(layout.groups()) > 1:
        _check_normalization(model)


def _check_inputs(model, task, given):
    needed = model.sharing.inputs_of(task)
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
            f"The data set of task '{task}' should have the task's inputs, {list(needed)}. Received: {list(given)}, "
            f"without {missing}"
        )


def _check_normalization(model):
    for layer in model._flatten_layers():
        plain = isinstance(layer, keras.layers.BatchNormalization) and not isinstance(layer, SafeBatchNormalization)
        if plain and layer.trainable:
            raise ValueError(
                f"Layer '{layer.name}' would normalize empty batches, since tasks with inputs of their own take turns, "
                "and its statistics would become NaN. It should be a `keras_mtl.layers.SafeBatchNormalization`, or "
                "have trainable=False"
            )
