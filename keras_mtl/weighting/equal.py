"""Equal weighting: every present task counts once."""

from __future__ import annotations

from keras_mtl._types import Tensor
from keras_mtl.weighting.base import Weighting
from keras_mtl.weighting.registry import register


@register("equal")
class Equal(Weighting):
    r"""Weights 1 for every present task: the sum of the task losses.

    ```math
    L = \sum_k L_k
    ```

    With it a multi-task model trains exactly as plain Keras does.

    Example:

    >>> weighting = keras_mtl.weighting.Equal()
    >>> weighting([0.5, 2.0]).numpy().tolist()
    [1.0, 1.0]
    """

    weighs = False

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        return present
