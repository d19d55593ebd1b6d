"""keras_mtl: multi-task learning for Keras 3."""

import importlib

from keras_mtl import callbacks, distillation, fairness, layers, metrics, rl, weighting
from keras_mtl.models import (
    Dependency,
    MultiTaskModel,
    OmniTask,
    adapter_sharing,
    adashare,
    branch_by_affinity,
    branched_sharing,
    branches_of,
    cgc,
    cross_stitch,
    decode,
    discriminative_rates,
    dselect_k,
    esmm,
    extract_branches,
    fit_policy,
    group_by_layout,
    hard_sharing,
    hierarchical_sharing,
    learning_to_branch,
    merge,
    merge_conflicts,
    mmoe,
    mtan,
    nddr,
    neural_module_network,
    omninet,
    omoe,
    own_inputs,
    ple,
    plot_sharing,
    policy_of,
    predict_by_layout,
    query_layout,
    sample_policies,
    sluice,
    soft_sharing,
    stages_of,
    thin_stages,
)

__version__ = "0.1.0"

__all__ = [
    "Dependency",
    "MultiTaskModel",
    "OmniTask",
    "adapter_sharing",
    "adashare",
    "advise",
    "analysis",
    "branch_by_affinity",
    "branched_sharing",
    "branches_of",
    "callbacks",
    "cgc",
    "cross_stitch",
    "data",
    "decode",
    "discriminative_rates",
    "distillation",
    "dselect_k",
    "esmm",
    "extract_branches",
    "fairness",
    "fit_policy",
    "group_by_layout",
    "hard_sharing",
    "hierarchical_sharing",
    "layers",
    "learning_to_branch",
    "merge",
    "merge_conflicts",
    "metrics",
    "mmoe",
    "mtan",
    "nddr",
    "neural_module_network",
    "omninet",
    "omoe",
    "own_inputs",
    "ple",
    "plot_sharing",
    "policy_of",
    "predict_by_layout",
    "query_layout",
    "rl",
    "sample_policies",
    "sluice",
    "soft_sharing",
    "stages_of",
    "thin_stages",
    "tuning",
    "weighting",
]

_WHEN_ASKED_FOR = ("analysis", "data", "tuning")  # they take their time, and no saved model needs them


def __getattr__(name):
    if name in _WHEN_ASKED_FOR:
        return importlib.import_module(f"keras_mtl.{name}")
    if name == "advise":
        return importlib.import_module("keras_mtl.analysis").advise
    raise AttributeError(f"module 'keras_mtl' has no attribute {name!r}")
