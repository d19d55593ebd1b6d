"""Weightings: from task losses or task gradients to task weights."""

from keras_mtl.weighting.aligned import AlignedMTL
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.cagrad import CAGrad
from keras_mtl.weighting.config import ConFIG
from keras_mtl.weighting.cosmos import COSMOS
from keras_mtl.weighting.custom_loop import task_gradients
from keras_mtl.weighting.dbmtl import DBMTL
from keras_mtl.weighting.dtp import DTP
from keras_mtl.weighting.dualproj import DualProj
from keras_mtl.weighting.dwa import DWA
from keras_mtl.weighting.equal import Equal
from keras_mtl.weighting.excess import ExcessMTL
from keras_mtl.weighting.fairgrad import FairGrad
from keras_mtl.weighting.famo import FAMO
from keras_mtl.weighting.feature_weighting import FeatureWeighting
from keras_mtl.weighting.geometric import Geometric
from keras_mtl.weighting.graddrop import GradDrop
from keras_mtl.weighting.gradnorm import GradNorm
from keras_mtl.weighting.gradvac import GradVac
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.great import GREAT
from keras_mtl.weighting.imtl_g import IMTLG
from keras_mtl.weighting.imtl_l import IMTLL
from keras_mtl.weighting.jacobian_weighting import JacobianWeighting
from keras_mtl.weighting.m_config import MConFIG
from keras_mtl.weighting.mgda import MGDA
from keras_mtl.weighting.moco import MoCo
from keras_mtl.weighting.modo import MoDo
from keras_mtl.weighting.nash import NashMTL
from keras_mtl.weighting.pbi import PBI
from keras_mtl.weighting.pcd import PCD
from keras_mtl.weighting.pcgrad import PCGrad
from keras_mtl.weighting.random_weighting import RandomWeighting
from keras_mtl.weighting.registry import deserialize, get, names, serialize
from keras_mtl.weighting.relobralo import ReLoBRaLo
from keras_mtl.weighting.scale_invariant import ScaleInvariant
from keras_mtl.weighting.sdmgrad import SDMGrad
from keras_mtl.weighting.sequential import Sequential
from keras_mtl.weighting.softadapt import SoftAdapt
from keras_mtl.weighting.stch import STCH
from keras_mtl.weighting.uncertainty import Uncertainty
from keras_mtl.weighting.upgrad import UPGrad
from keras_mtl.weighting.uw_so import UWSO

__all__ = [
    "COSMOS",
    "DBMTL",
    "DTP",
    "DWA",
    "FAMO",
    "GREAT",
    "IMTLG",
    "IMTLL",
    "MGDA",
    "PBI",
    "PCD",
    "STCH",
    "UWSO",
    "AlignedMTL",
    "CAGrad",
    "ConFIG",
    "DualProj",
    "Equal",
    "ExcessMTL",
    "FairGrad",
    "FeatureWeighting",
    "Geometric",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GramianWeighting",
    "JacobianWeighting",
    "MConFIG",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "RandomWeighting",
    "ReLoBRaLo",
    "SDMGrad",
    "ScaleInvariant",
    "Sequential",
    "SoftAdapt",
    "UPGrad",
    "Uncertainty",
    "Weighting",
    "deserialize",
    "get",
    "names",
    "serialize",
    "task_gradients",
]
