"""Did sharing help, and why: comparisons with single-task models."""

from keras_mtl.analysis.compare import compare
from keras_mtl.analysis.report import Report

__all__ = ["Report", "compare"]
