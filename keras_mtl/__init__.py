"""keras_mtl: multi-task learning for Keras 3."""

from keras_mtl import analysis, callbacks, data, layers, metrics, weighting
from keras_mtl.models import (
    Dependency,
    MultiTaskModel,
    branched_sharing,
    cgc,
    cross_stitch,
    dselect_k,
    esmm,
    hard_sharing,
    hierarchical_sharing,
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
    "analysis",
    "branched_sharing",
    "callbacks",
    "cgc",
    "cross_stitch",
    "data",
    "dselect_k",
    "esmm",
    "hard_sharing",
    "hierarchical_sharing",
    "layers",
    "metrics",
    "mmoe",
    "mtan",
    "nddr",
    "omoe",
    "own_inputs",
    "ple",
    "plot_sharing",
    "sluice",
    "soft_sharing",
    "stages_of",
    "weighting",
]
