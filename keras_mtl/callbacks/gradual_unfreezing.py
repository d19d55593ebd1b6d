"""Gradual unfreezing of a pretrained trunk, from the top down."""

from collections.abc import Mapping
from typing import Any

from keras_mtl._checks import check_integer
from keras_mtl.callbacks._copied import CopiedCallback
from keras_mtl.models._layer_order import levels_of


class GradualUnfreezing(CopiedCallback):
    """Freezes all but the heads, and releases one level after the other, from the heads to the inputs.

    A frozen layer keeps its weights, and frozen batch normalization its statistics. Layers that were
    frozen before training stay so. What has been released stays so, also after training.

    Args:
        every: Integer. The number of epochs between releases. Defaults to 1.
        first: Integer. The epoch, from 0, at which the level below the heads
            is released. Defaults to `None`: `every`.

    Raises:
        ValueError: If an option is out of range; when training begins, if the
            model has no level below its heads that trains.

    Example:

    >>> callback = keras_mtl.callbacks.GradualUnfreezing(every=2)  # heads alone in epochs 0 and 1

    Reference:

    - J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018, arXiv:1801.06146.
    """

    _of_training = ("_levels",)

    def __init__(self, every: int = 1, first: int | None = None) -> None:
        super().__init__()
        self.every = check_integer(every, "every", 1)
        self.first = self.every if first is None else check_integer(first, "first")

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        levels = [[layer for layer in level if layer.trainable] for level in levels_of(self.model)]
        self._levels = levels[:-1]
        if not self._levels:
            raise ValueError(
                f"Model '{self.model.name}' should have levels below its heads to release. Received: one level of "
                f"{[layer.name for layer in levels[-1]]}"
            )
        self._release(0)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._release(epoch)

    def released(self, epoch: int) -> int:
        """The number of levels below the heads that train in an epoch, counted from 0."""
        return max(0, 1 + (epoch - self.first) // self.every)

    def _release(self, epoch: int) -> None:
        frozen = max(0, len(self._levels) - self.released(epoch))
        for depth, level in enumerate(self._levels):
            for layer in level:
                if layer.trainable != (depth >= frozen):
                    layer.trainable = depth >= frozen
