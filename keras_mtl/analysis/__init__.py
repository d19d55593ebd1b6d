"""Did sharing help, and why: comparisons with single-task models, and which tasks belong together."""

from keras_mtl.analysis.advice.advice import Advice
from keras_mtl.analysis.advice.advise import advise
from keras_mtl.analysis.compare import compare
from keras_mtl.analysis.group_and_compare import GroupStudy, group_and_compare
from keras_mtl.analysis.grouping.group_tasks import group_tasks
from keras_mtl.analysis.grouping.grouped_model import GroupedModel, build_groups
from keras_mtl.analysis.grouping.grouping import Grouping
from keras_mtl.analysis.grouping.measure_networks import measure_networks
from keras_mtl.analysis.grouping.network import Network
from keras_mtl.analysis.grouping.plot_budgets import plot_budgets
from keras_mtl.analysis.measure_affinity import measure_affinity
from keras_mtl.analysis.pareto_sweep import ParetoSweep, pareto_sweep
from keras_mtl.analysis.report import Report
from keras_mtl.analysis.representation_similarity import representation_similarity
from keras_mtl.analysis.task_relations import TaskRelations, task_relations
from keras_mtl.analysis.transfer.ahp import ahp, win_rates
from keras_mtl.analysis.transfer.plan_transfers import plan_transfers
from keras_mtl.analysis.transfer.result import TransferMap
from keras_mtl.analysis.transfer.transfer_map import transfer_map
from keras_mtl.analysis.transfer.transfer_policy import TransferPolicy
from keras_mtl.metrics._affinity import Affinity

__all__ = [
    "Advice",
    "Affinity",
    "GroupStudy",
    "GroupedModel",
    "Grouping",
    "Network",
    "ParetoSweep",
    "Report",
    "TaskRelations",
    "TransferMap",
    "TransferPolicy",
    "advise",
    "ahp",
    "build_groups",
    "compare",
    "group_and_compare",
    "group_tasks",
    "measure_affinity",
    "measure_networks",
    "pareto_sweep",
    "plan_transfers",
    "plot_budgets",
    "representation_similarity",
    "task_relations",
    "transfer_map",
    "win_rates",
]
