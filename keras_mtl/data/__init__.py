"""Data of many tasks: mixtures, samplers, curricula and missing labels."""

from keras_mtl.data.backup_position import BackupPosition
from keras_mtl.data.curriculum import Curriculum, learning_speed
from keras_mtl.data.label_report import MissingReport
from keras_mtl.data.missing import missing_report
from keras_mtl.data.mix import mix
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.pacing import competence, pace
from keras_mtl.data.samplers.a5c import A5C
from keras_mtl.data.samplers.base import Sampler
from keras_mtl.data.samplers.by_size import Annealed, Proportional, Temperature
from keras_mtl.data.samplers.dynamic_task_prioritization import DynamicTaskPrioritization
from keras_mtl.data.samplers.ea4c import EA4C
from keras_mtl.data.samplers.loss_ratio import LossRatio
from keras_mtl.data.samplers.static import Fixed, RoundRobin, Uniform
from keras_mtl.data.samplers.ua4c import UA4C
from keras_mtl.data.task_stats import TaskStats

__all__ = [
    "A5C",
    "EA4C",
    "UA4C",
    "Annealed",
    "BackupPosition",
    "Curriculum",
    "DynamicTaskPrioritization",
    "Fixed",
    "LossRatio",
    "MissingReport",
    "Mixture",
    "Proportional",
    "RoundRobin",
    "Sampler",
    "TaskStats",
    "Temperature",
    "Uniform",
    "competence",
    "learning_speed",
    "missing_report",
    "mix",
    "pace",
]
