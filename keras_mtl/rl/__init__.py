"""Policies for several environments: actor-critics with shared trunks, Distral, shaping."""

from keras_mtl.rl.actor_critic_loss import ActorCriticLoss
from keras_mtl.rl.distilled_policy import DistilledPolicy, distilled_policy
from keras_mtl.rl.distral import distral
from keras_mtl.rl.distral_loss import DistralLoss
from keras_mtl.rl.play import evaluate, record
from keras_mtl.rl.tabular import TabularDistral, soft_policy, soft_values
from keras_mtl.rl.train import train

__all__ = [
    "ActorCriticLoss",
    "DistilledPolicy",
    "DistralLoss",
    "PotentialShaping",
    "TabularDistral",
    "distilled_policy",
    "distral",
    "evaluate",
    "record",
    "soft_policy",
    "soft_values",
    "train",
]


def __getattr__(name: str) -> type:
    if name == "PotentialShaping":  # a Gymnasium wrapper, so it needs gymnasium to be defined
        from keras_mtl.rl.shaping import PotentialShaping

        return PotentialShaping
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
