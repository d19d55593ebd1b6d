"""keras_mtl: multi-task learning for Keras 3."""

from keras_mtl import layers, weighting
from keras_mtl.models import MultiTaskModel, hard_sharing, stages_of

__version__ = "0.1.0"

__all__ = ["MultiTaskModel", "hard_sharing", "layers", "stages_of", "weighting"]
