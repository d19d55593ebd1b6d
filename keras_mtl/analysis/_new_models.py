"""Checks that functions which build models build a new one at every call."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel
    from keras_mtl.models.multi_task_model import MultiTaskModel


class NewModels:
    """Sees the models that are built one after the other, and raises where two would train the same variables.

    What the first one learns would be where the second one starts. Frozen
    layers may be in any number of models.
    """

    def __init__(self) -> None:
        self._seen = {}  # the variables themselves may go

    def check(self, what: str, model: MultiTaskModel | GroupedModel) -> None:
        """Notes a model.

        Args:
            what: String. What built it, for the error, such as `"Candidate 'a'"`.
            model: `MultiTaskModel` or `GroupedModel`.

        Raises:
            ValueError: If it would train a variable of an earlier one, or was
                trained before.
        """
        new = {}
        for network in networks_of(model):
            optimizer = network.optimizer
            if optimizer.built and int(keras.ops.convert_to_numpy(optimizer.iterations.value)) > 0:
                raise ValueError(f"{what} should build a new model each time. Received: one that was trained before")
            own = {id(variable): variable for variable in network.trainable_variables}  # some are listed twice
            for variable in own.values():
                seen = self._seen.get(id(variable))
                if id(variable) in new or (seen is not None and seen() is variable):
                    raise ValueError(
                        f"{what} should build a new model each time, with its layers. Received: one that trains "
                        f"{variable.path!r} of an earlier one. Make its layers in the function, from copies of "
                        "pretrained ones, or freeze them"
                    )
                new[id(variable)] = weakref.ref(variable)
        self._seen.update(new)


def networks_of(model: MultiTaskModel | GroupedModel) -> list[MultiTaskModel]:
    """The networks that a candidate consists of: usually itself."""
    return [model] if isinstance(model, keras.Model) else getattr(model, "networks", [model])
