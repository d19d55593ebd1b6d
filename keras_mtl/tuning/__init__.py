"""Searching how much to share: spaces and a fair objective for keras-tuner."""

import importlib

from keras_mtl.tuning.launch import is_worker, launch
from keras_mtl.tuning.objective import objective
from keras_mtl.tuning.pareto import ParetoFront, pareto_front
from keras_mtl.tuning.sharing_space import SharingChoice, sharing_space
from keras_mtl.tuning.training_space import TrainingChoice, training_space
from keras_mtl.tuning.weighting_space import weighting_space

__all__ = [
    "ParetoFront",
    "SearchEstimate",
    "SharingChoice",
    "SharingHyperModel",
    "TrainingChoice",
    "budget_search",
    "estimate",
    "is_worker",
    "launch",
    "objective",
    "pareto_front",
    "sharing_space",
    "training_space",
    "weighting_space",
]

# They need keras-tuner at once, which takes half a second to import.
_LATER = {
    "SearchEstimate": "estimates",
    "SharingHyperModel": "sharing_hyper_model",
    "budget_search": "budget",
    "estimate": "estimates",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    return found
