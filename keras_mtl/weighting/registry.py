"""Weightings by name."""

import keras

from keras_mtl.weighting.aligned import AlignedMTL
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.cagrad import CAGrad
from keras_mtl.weighting.config import ConFIG
from keras_mtl.weighting.dbmtl import DBMTL
from keras_mtl.weighting.dtp import DTP
from keras_mtl.weighting.dualproj import DualProj
from keras_mtl.weighting.dwa import DWA
from keras_mtl.weighting.equal import Equal
from keras_mtl.weighting.excess import ExcessMTL
from keras_mtl.weighting.fairgrad import FairGrad
from keras_mtl.weighting.famo import FAMO
from keras_mtl.weighting.geometric import Geometric
from keras_mtl.weighting.graddrop import GradDrop
from keras_mtl.weighting.gradnorm import GradNorm
from keras_mtl.weighting.gradvac import GradVac
from keras_mtl.weighting.great import GREAT
from keras_mtl.weighting.imtl_g import IMTLG
from keras_mtl.weighting.imtl_l import IMTLL
from keras_mtl.weighting.mgda import MGDA
from keras_mtl.weighting.moco import MoCo
from keras_mtl.weighting.modo import MoDo
from keras_mtl.weighting.nash import NashMTL
from keras_mtl.weighting.pcgrad import PCGrad
from keras_mtl.weighting.random_weighting import RandomWeighting
from keras_mtl.weighting.scale_invariant import ScaleInvariant
from keras_mtl.weighting.sdmgrad import SDMGrad
from keras_mtl.weighting.stch import STCH
from keras_mtl.weighting.uncertainty import Uncertainty
from keras_mtl.weighting.upgrad import UPGrad

_WEIGHTINGS = {
    "aligned": AlignedMTL,
    "cagrad": CAGrad,
    "config": ConFIG,
    "dbmtl": DBMTL,
    "dtp": DTP,
    "dualproj": DualProj,
    "dwa": DWA,
    "equal": Equal,
    "excess": ExcessMTL,
    "fairgrad": FairGrad,
    "famo": FAMO,
    "geometric": Geometric,
    "graddrop": GradDrop,
    "gradnorm": GradNorm,
    "gradvac": GradVac,
    "great": GREAT,
    "imtl_g": IMTLG,
    "imtl_l": IMTLL,
    "mgda": MGDA,
    "moco": MoCo,
    "modo": MoDo,
    "nash": NashMTL,
    "pcgrad": PCGrad,
    "random": RandomWeighting,
    "scale_invariant": ScaleInvariant,
    "sdmgrad": SDMGrad,
    "stch": STCH,
    "uncertainty": Uncertainty,
    "upgrad": UPGrad,
}


def names():
    """Names that `keras_mtl.weighting.get` and `compile(weighting=...)` know.

    Returns:
        Sorted list of strings.
    """
    return sorted(_WEIGHTINGS)


def serialize(weighting):
    """Config of a weighting, as `deserialize` takes it.

    Args:
        weighting: A `Weighting`.

    Returns:
        A JSON-compatible dict.
    """
    return keras.saving.serialize_keras_object(weighting)


def deserialize(config):
    """Makes a weighting from a config made by `serialize`.

    Args:
        config: Dict.

    Returns:
        A `Weighting`.
    """
    weighting = keras.saving.deserialize_keras_object(config)
    if not isinstance(weighting, Weighting):
        raise ValueError(f"`config` should describe a keras_mtl weighting. Received: config={config!r}")
    return weighting


def get(identifier):
    """Weighting of a name, a config or a weighting.

    Args:
        identifier: String (see `names()`), a `Weighting`, or a config dict.

    Returns:
        A `Weighting`.

    Raises:
        ValueError: If the name is unknown or the type is wrong.

    Example:

    >>> keras_mtl.weighting.get("mgda").requires
    'gramian'
    """
    if isinstance(identifier, Weighting):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier in _WEIGHTINGS:
        return _WEIGHTINGS[identifier]()
    raise ValueError(
        f"`weighting` should be one of {names()}, a `keras_mtl.weighting.Weighting` or its config. "
        f"Received: weighting={identifier!r}"
    )
