"""Callbacks that see tasks: dashboards, conflicts, sharing, early stopping, live weights, gradual unfreezing."""

from keras_mtl.callbacks.conflict_monitor import ConflictMonitor
from keras_mtl.callbacks.gradual_unfreezing import GradualUnfreezing
from keras_mtl.callbacks.sharing_monitor import SharingMonitor
from keras_mtl.callbacks.task_affinity import TaskAffinity
from keras_mtl.callbacks.task_board import TaskBoard
from keras_mtl.callbacks.task_early_stopping import TaskEarlyStopping, tcdcn_criterion
from keras_mtl.callbacks.weight_schedule import WeightSchedule

__all__ = [
    "ConflictMonitor",
    "GradualUnfreezing",
    "SharingMonitor",
    "TaskAffinity",
    "TaskBoard",
    "TaskEarlyStopping",
    "WeightSchedule",
    "tcdcn_criterion",
]
