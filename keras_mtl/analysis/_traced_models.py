"""A cache of traced models, for trials of the same structure."""

from __future__ import annotations

import collections
import json
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mtl._keras_private import layers_of
from keras_mtl._types import Structure
from keras_mtl.analysis._fingerprint import without_automatic_names

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


class TracedModels:
    """Keeps the models of past trials, so that trials like them need no tracing.

    Two trials often differ in numbers that live in variables: the initial
    weights, the learning rate, static task weights. Then the graph of the one
    serves the other, once the variables have the other's values. What makes a
    structure is the whole config of model and compile settings but these
    numbers, so nothing that is baked into a graph can be missed.

    A model is handed out once and comes back when its trial is over: no two
    holders ever have the same one.

    Args:
        limit: Integer. How many models are kept; the oldest go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hits = 0
        self._kept = collections.OrderedDict()

    def exchange(self, fresh: keras.Model) -> keras.Model:
        """A traced model in the state of a fresh one of its structure, or the fresh one.

        Args:
            fresh: A compiled model with a built optimizer.

        Returns:
            A model.
        """
        if not self.limit:
            return fresh
        key = structure_of(fresh)
        for kept_key, model in list(self._kept.items()):
            if kept_key[0] == key and _take_state(model, fresh):
                del self._kept[kept_key]
                self.hits += 1
                return model
        return fresh

    def keep(self, model: MultiTaskModel) -> None:
        """Takes back the model of a trial that is over."""
        if self.limit:
            # The structure as it is now: a callback may have frozen layers.
            self._kept[structure_of(model), id(model)] = model
            while len(self._kept) > self.limit:
                self._kept.popitem(last=False)


def structure_of(model: MultiTaskModel) -> str:
    """Text that is equal for models whose graphs can stand for each other, whatever Keras has called their parts."""
    config = model.get_config()
    config.pop("name", None)
    settings = dict(model.get_compile_config())
    settings["optimizer"] = _without_rates(settings["optimizer"])
    settings.pop("loss_weights", None)
    return json.dumps(without_automatic_names([config, settings]), sort_keys=True, default=str)


def _without_rates(config: Structure) -> Structure:
    if isinstance(config, dict):
        # A schedule is part of the graph; a plain rate is a variable.
        plain = isinstance(config.get("learning_rate"), (int, float))
        return {k: None if plain and k == "learning_rate" else _without_rates(v) for k, v in config.items()}
    return [_without_rates(item) for item in config] if isinstance(config, (list, tuple)) else config


def _take_state(model: MultiTaskModel, fresh: keras.Model) -> bool:
    # What a layer has adapted to is a constant of the traced graph.
    adapted = [
        (kept, new) for kept, new in zip(layers_of(model), layers_of(fresh), strict=True) if hasattr(kept, "adapt")
    ]
    if not all(_adapted_alike(kept, new) for kept, new in adapted):
        return False
    pairs = []
    # Those of an optimizer include its learning rate, where that is no schedule.
    for kept, new in ((model.variables, fresh.variables), (model.optimizer.variables, fresh.optimizer.variables)):
        if [(v.shape, v.dtype) for v in kept] != [(v.shape, v.dtype) for v in new]:
            return False
        pairs += zip(kept, new, strict=True)
    for target, source in pairs:
        target.assign(source)
    model.set_task_weights(fresh.task_weights())
    return True


def _adapted_alike(kept: keras.Layer, new: keras.Layer) -> bool:
    if hasattr(kept, "get_vocabulary") and kept.get_vocabulary() != new.get_vocabulary():
        return False
    return all(np.array_equal(a, b) for a, b in zip(kept.get_weights(), new.get_weights(), strict=True))
