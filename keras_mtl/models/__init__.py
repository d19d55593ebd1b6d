"""The multi-task model and its builders."""

from keras_mtl.models.adapter_sharing import adapter_sharing
from keras_mtl.models.branched_sharing import branched_sharing
from keras_mtl.models.cgc import cgc
from keras_mtl.models.cross_stitch import cross_stitch
from keras_mtl.models.dependency import Dependency
from keras_mtl.models.discriminative_rates import discriminative_rates
from keras_mtl.models.dselect_k import dselect_k
from keras_mtl.models.esmm import esmm
from keras_mtl.models.hard_sharing import hard_sharing
from keras_mtl.models.hierarchical_sharing import hierarchical_sharing
from keras_mtl.models.merge import merge, merge_conflicts
from keras_mtl.models.mmoe import mmoe
from keras_mtl.models.mtan import mtan
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.models.nddr import nddr
from keras_mtl.models.omoe import omoe
from keras_mtl.models.own_inputs import own_inputs
from keras_mtl.models.ple import ple
from keras_mtl.models.plot_sharing import plot_sharing
from keras_mtl.models.sluice import sluice
from keras_mtl.models.soft_sharing import soft_sharing
from keras_mtl.models.stages_of import stages_of
from keras_mtl.models.thin_stages import thin_stages

__all__ = [
    "Dependency",
    "MultiTaskModel",
    "adapter_sharing",
    "branched_sharing",
    "cgc",
    "cross_stitch",
    "discriminative_rates",
    "dselect_k",
    "esmm",
    "hard_sharing",
    "hierarchical_sharing",
    "merge",
    "merge_conflicts",
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
    "thin_stages",
]
