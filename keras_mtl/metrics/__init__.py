"""Metrics over several tasks."""

from keras_mtl.metrics.delta_m import DeltaM, delta_m
from keras_mtl.metrics.directions import higher_is_better

__all__ = ["DeltaM", "delta_m", "higher_is_better"]
