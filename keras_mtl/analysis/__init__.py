"""Did sharing help, and why: comparisons with single-task models, and which tasks belong together."""

from keras_mtl.analysis.affinity import Affinity
from keras_mtl.analysis.compare import compare
from keras_mtl.analysis.grouping.group_tasks import group_tasks
from keras_mtl.analysis.grouping.network import Network
from keras_mtl.analysis.grouping.result import Grouping
from keras_mtl.analysis.report import Report

__all__ = ["Affinity", "Grouping", "Network", "Report", "compare", "group_tasks"]
