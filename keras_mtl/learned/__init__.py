"""Sharing that is learned: trees of branches, and a policy of which task runs which stage.

`branch_by_affinity` grows a tree from what tasks find difficult, `learning_to_branch` trains one by gradients, and
`adashare` learns for every task which stages to run; the others train, read and draw what these learn.
"""

from keras_mtl.learned.adashare import adashare, policy_of, sample_policies
from keras_mtl.learned.branch_by_affinity import branch_by_affinity
from keras_mtl.learned.fit_policy import fit_policy
from keras_mtl.learned.gumbel_gate import GumbelGate
from keras_mtl.learned.learning_to_branch import branches_of, extract_branches, learning_to_branch
from keras_mtl.learned.policy_stage import PolicyStage

__all__ = [
    "GumbelGate",
    "PolicyStage",
    "adashare",
    "branch_by_affinity",
    "branches_of",
    "extract_branches",
    "fit_policy",
    "learning_to_branch",
    "policy_of",
    "sample_policies",
]
