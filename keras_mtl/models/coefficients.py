"""Reading what mixes the tasks' features, and what ties their weights.

A layer that mixes has `coefficients(output=None)`: an array, or `None` where it
needs what it returned for examples, and `by_source`, which makes one number of them
for each tensor that comes in, where that makes sense. It stands at the end of a `Stage`, which
says where its variables are. A stage that is tied to others has `joint_loss`
and `joint_coefficients`, which take a dict of the model's layers.
"""

import keras
from keras import ops


def mixing_stages(model):
    """The model's stages that end with a layer that has coefficients."""
    return [layer for layer in model.layers if getattr(layer, "mixer", None) is not None]


def tied_stages(model):
    """The model's stages whose weights are tied to others'."""
    return [layer for layer in model.layers if hasattr(layer, "joint_loss")]


def joint_losses(model):
    """List of the scalars that tied stages add to the loss."""
    stages = {layer.name: layer for layer in model.layers}
    losses = [layer.joint_loss(stages) for layer in tied_stages(model)]
    return [loss for loss in losses if loss is not None]


def read_coefficients(model, x=None):
    """What `MultiTaskModel.sharing_coefficients` returns."""
    mixing = mixing_stages(model)
    found = {stage.scope: stage.mixer.coefficients() for stage in mixing}
    waiting = [stage for stage in mixing if found[stage.scope] is None]
    if waiting and x is None:
        raise ValueError(
            f"`x` should be given, since these coefficients depend on the example: {[s.scope for s in waiting]}. "
            "Received: x=None"
        )
    if waiting:
        outputs = keras.Model(model.input, [_mean_over_positions(stage.output) for stage in waiting])
        for stage, output in zip(waiting, _as_list(outputs.predict(x, verbose=0)), strict=True):
            found[stage.scope] = stage.mixer.coefficients(output)
    stages = {layer.name: layer for layer in model.layers}
    for stage in tied_stages(model):
        distances = stage.joint_coefficients(stages)
        if distances is not None:
            found[f"distance/{stage.name.removeprefix(stage.scope + '_')}"] = distances
    return found


def _mean_over_positions(tensor):
    # In the graph, so that masks of whole images are never held for all examples.
    axes = tuple(range(1, len(tensor.shape) - 1))
    return ops.mean(tensor, axis=axes) if axes else tensor


def _as_list(outputs):
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]
