"""Distillation: what teachers know, in one student."""

from keras_mtl.distillation.distill import distill
from keras_mtl.distillation.distiller import Distiller
from keras_mtl.distillation.targets import soft_targets

__all__ = ["Distiller", "distill", "soft_targets"]
