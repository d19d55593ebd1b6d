"""Did sharing help, and why: comparisons with single-task models, and which tasks belong together."""

from keras_mtl.analysis.affinity import Affinity
from keras_mtl.analysis.compare import compare
from keras_mtl.analysis.grouping.group_tasks import group_tasks
from keras_mtl.analysis.grouping.network import Network
from keras_mtl.analysis.grouping.plots import plot_budgets
from keras_mtl.analysis.grouping.result import Grouping
from keras_mtl.analysis.report import Report
from keras_mtl.analysis.transfer.ahp import ahp, win_rates
from keras_mtl.analysis.transfer.policy import TransferPolicy
from keras_mtl.analysis.transfer.program import plan_transfers

__all__ = [
    "Affinity",
    "Grouping",
    "Network",
    "Report",
    "TransferPolicy",
    "ahp",
    "compare",
    "group_tasks",
    "plan_transfers",
    "plot_budgets",
    "win_rates",
]
