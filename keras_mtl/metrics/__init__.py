"""Metrics over several tasks, and over the labels of one."""

from keras_mtl.metrics.delta_m import DeltaM, delta_m
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.metrics.labelwise_auc import LabelwiseAUC
from keras_mtl.metrics.labelwise_mean import LabelwiseMean

__all__ = ["DeltaM", "LabelwiseAUC", "LabelwiseMean", "delta_m", "higher_is_better"]
