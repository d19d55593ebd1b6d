"""Models of recommender systems: funnels of events, embeddings of tasks, gates that see person and item.

`aitm` hands on what a task of a funnel knows to the next, `adatt` mixes the experts of all tasks at every level, `stem`
gives tasks embeddings of their own, and `pepnet` scales embeddings and towers for each example. ESMM, CGC, PLE and
MMoE, which came from recommenders too, are at top level.
"""

from keras_mtl.recommenders.adatt import adatt
from keras_mtl.recommenders.aitm import aitm
from keras_mtl.recommenders.information_transfer import FunnelOrder, InformationTransfer
from keras_mtl.recommenders.pepnet import pepnet
from keras_mtl.recommenders.personal_gate import PersonalGate
from keras_mtl.recommenders.stem import stem

__all__ = [
    "FunnelOrder",
    "InformationTransfer",
    "PersonalGate",
    "adatt",
    "aitm",
    "pepnet",
    "stem",
]
