"""Metrics over several tasks, over the labels of one, and of what tasks share."""

from keras_mtl.metrics.delta_m import DeltaM, delta_m
from keras_mtl.metrics.directions import higher_is_better
from keras_mtl.metrics.gates import dead_experts, gate_utilization
from keras_mtl.metrics.labelwise_auc import LabelwiseAUC
from keras_mtl.metrics.labelwise_mean import LabelwiseMean
from keras_mtl.metrics.ndcg import NDCG
from keras_mtl.metrics.unit_drift import unit_drift

__all__ = [
    "NDCG",
    "DeltaM",
    "LabelwiseAUC",
    "LabelwiseMean",
    "dead_experts",
    "delta_m",
    "gate_utilization",
    "higher_is_better",
    "unit_drift",
]
