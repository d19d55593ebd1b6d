"""keras_mtl: multi-task learning for Keras 3."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from keras_mtl import (
    callbacks,
    distillation,
    fairness,
    layers,
    learned,
    metrics,
    models,
    modular,
    multimodal,
    penalties,
    recommenders,
    retrieval,
    rl,
    weighting,
)
from keras_mtl.models import (
    Dependency,
    MultiTaskModel,
    adapter_sharing,
    branched_sharing,
    cgc,
    cross_stitch,
    dselect_k,
    esmm,
    hard_sharing,
    hierarchical_sharing,
    merge,
    merge_conflicts,
    mmoe,
    mtan,
    nddr,
    omoe,
    own_inputs,
    ple,
    plot_sharing,
    sluice,
    soft_sharing,
    stages_of,
)

__version__ = "0.1.0"

__all__ = [
    "Dependency",
    "MultiTaskModel",
    "adapter_sharing",
    "advise",
    "analysis",
    "branched_sharing",
    "callbacks",
    "cgc",
    "cross_stitch",
    "data",
    "distillation",
    "dselect_k",
    "esmm",
    "fairness",
    "hard_sharing",
    "hierarchical_sharing",
    "layers",
    "learned",
    "merge",
    "merge_conflicts",
    "metrics",
    "mmoe",
    "models",
    "modular",
    "mtan",
    "multimodal",
    "nddr",
    "omoe",
    "own_inputs",
    "penalties",
    "ple",
    "plot_sharing",
    "recommenders",
    "retrieval",
    "rl",
    "sluice",
    "soft_sharing",
    "stages_of",
    "tuning",
    "weighting",
]

_WHEN_ASKED_FOR = ("analysis", "data", "tuning")  # they take their time, and no saved model needs them


def __getattr__(name: str) -> ModuleType | Callable[..., Any]:
    if name in _WHEN_ASKED_FOR:
        return importlib.import_module(f"keras_mtl.{name}")
    if name == "advise":
        return importlib.import_module("keras_mtl.analysis").advise
    raise AttributeError(f"module 'keras_mtl' has no attribute {name!r}")
