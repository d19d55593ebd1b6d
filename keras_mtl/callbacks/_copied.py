"""Callbacks that can be copied after use."""

import copy
from typing import Any, Self

import keras


class CopiedCallback(keras.callbacks.Callback):
    """A callback whose deep copy has its settings and results, and nothing of the training that it was in.

    Searches copy their callbacks for each trial. The model, and what is made
    of it as training begins, stays with the original: a copy would be another
    model's, and functions in a graph cannot be copied.
    """

    _of_training = ()  # attributes that `on_train_begin` makes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        kept = {name: value for name, value in vars(self).items() if name not in self._of_training}
        kept = {name: value for name, value in kept.items() if value is None or value is not self.model}
        made.__dict__.update(copy.deepcopy(kept, memo))
        keras.callbacks.Callback.set_model(made, None)
        return made
