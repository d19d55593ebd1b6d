"""Reading sharing coefficients, and the distances of tied weights.

A layer that mixes has `coefficients(output=None)`: an array, or `None` where it
needs what it returned for examples, and `by_source`, which makes one number of them
for each tensor that comes in, where that makes sense. One that starts at known
values has `start_coefficients`. It stands at the end of a `Stage`, which
says where its variables are. A stage that adds to the loss together with others
has `joint_loss`, and one whose weights are tied to others' `joint_coefficients`;
both take a dict of the model's layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import as_list
from keras_mtl._types import Structure, Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

_AT_ONCE = 512  # examples


def mixing_stages(model: MultiTaskModel) -> list[keras.Layer]:
    """The model's stages that end with a layer that has coefficients."""
    return [layer for layer in model.layers if getattr(layer, "mixer", None) is not None]


def tied_stages(model: MultiTaskModel) -> list[keras.Layer]:
    """The model's stages whose weights are tied to others'."""
    return [layer for layer in model.layers if hasattr(layer, "joint_coefficients")]


def joint_losses(model: MultiTaskModel) -> list[Tensor]:
    """List of the scalars that stages add to the loss together."""
    stages = {layer.name: layer for layer in model.layers}
    losses = [layer.joint_loss(stages) for layer in model.layers if hasattr(layer, "joint_loss")]
    return [loss for loss in losses if loss is not None]


class CoefficientReader:
    """Reads a model's coefficients again and again.

    The part of the model that leads to gates and masks is made once, so that
    it is traced once.

    Args:
        model: A `MultiTaskModel`.

    Attributes:
        mixing: List of the stages with coefficients.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        self._model = model
        self.mixing = mixing_stages(model)
        self._probe: keras.Model | None = None

    def read(self, x: Structure | None = None) -> dict[str, np.ndarray]:
        """The coefficients as they are now.

        Args:
            x: Inputs for those that depend on the example. Defaults to `None`:
                these are left out.

        Returns:
            Dict from scope to array.
        """
        found = {stage.scope: stage.mixer.coefficients() for stage in self.mixing}
        waiting = [stage for stage in self.mixing if found[stage.scope] is None]
        if waiting and x is not None:
            if self._probe is None:
                self._probe = keras.Model(self._model.input, [_mean_over_positions(s.output) for s in waiting])
            for stage, output in zip(waiting, as_list(self._outputs(x)), strict=True):
                found[stage.scope] = stage.mixer.coefficients(output)
        found = {scope: values for scope, values in found.items() if values is not None}
        stages = {layer.name: layer for layer in self._model.layers}
        for stage in tied_stages(self._model):
            distances = stage.joint_coefficients(stages)
            if distances is not None:
                found[f"distance/{stage.name.removeprefix(stage.scope + '_')}"] = distances
        return found

    def _outputs(self, x: Structure) -> Structure:
        # `predict` takes far longer to begin than to go through some hundred examples.
        rows = {len(array) for array in keras.tree.flatten(x) if hasattr(array, "shape")}
        if rows and max(rows) <= _AT_ONCE:
            return self._probe.predict_on_batch(x)
        return self._probe.predict(x, verbose=0)


def read_coefficients(model: MultiTaskModel, x: Structure | None = None) -> dict[str, np.ndarray]:
    """What `MultiTaskModel.sharing_coefficients` returns."""
    reader = CoefficientReader(model)
    found = reader.read(x)
    waiting = [stage.scope for stage in reader.mixing if stage.scope not in found]
    if waiting:
        raise ValueError(
            f"`x` should be given, since these coefficients depend on the example: {waiting}. Received: x=None"
        )
    return found


def _mean_over_positions(tensor: Tensor) -> Tensor:
    # In the graph, so that masks of whole images are never held for all examples.
    axes = tuple(range(1, len(tensor.shape) - 1))
    return ops.mean(tensor, axis=axes) if axes else tensor
