"""The multi-task model and its builders."""

from keras_mtl.models.columns import stages_of
from keras_mtl.models.hard_sharing import hard_sharing
from keras_mtl.models.multi_task_model import MultiTaskModel

__all__ = ["MultiTaskModel", "hard_sharing", "stages_of"]
