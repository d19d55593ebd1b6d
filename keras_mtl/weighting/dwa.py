"""Dynamic weight average."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_mtl._checks import check_number
from keras_mtl._types import Tensor
from keras_mtl.weighting._epoch_means import EpochMeans
from keras_mtl.weighting._present import masked_softmax
from keras_mtl.weighting.registry import register

_FLOOR = 1e-8


@register("dwa")
class DWA(EpochMeans):
    r"""Gives more weight to the tasks whose loss falls slowly.

    With `L_k(t)` the mean loss of task `k` in epoch `t` and the temperature `T`, the
    weights of epoch `t` are

    ```math
    w_k = K \, \mathrm{softmax}(r / T)_k, \quad r_k = \frac{L_k(t-1)}{L_k(t-2)}
    ```

    and 1 in the first two epochs. They stay the same within an epoch.

    Only rates count, never the losses' own scale: tasks whose losses differ
    by a factor of 100 and fall alike get equal weights.

    Scale: the weights of all tasks sum to K.

    Args:
        temperature: Float. High values make the weights more equal. Defaults
            to `2.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `temperature` is not positive.

    Example:

    >>> weighting = keras_mtl.weighting.DWA()
    >>> weighting.build((2,))
    >>> for losses in ([1.0, 1.0], [0.5, 1.0]):
    ...     weighting.update(np.array(losses), np.ones(2), np.ones(2))
    ...     weighting.end_epoch()
    >>> weighting([0.5, 1.0]).numpy().round(3).tolist()
    [0.876, 1.124]

    References:
        - Liu, Johns and Davison, "End-to-end multi-task learning with
          attention", 2019, arXiv:1803.10704.

    Deviations: epoch means are over the batches in which a task is present;
    an epoch without the task does not count as one of its epochs, and a task
    that has had fewer than two has `r = 1`. Mean losses under 1e-8 are read
    as 1e-8.
    """

    def __init__(self, temperature: float = 2.0, name: str | None = None) -> None:
        super().__init__(name=name)
        self.temperature = check_number(temperature, "temperature", above=0)

    def task_weights(self, losses: Tensor, present: Tensor, gramian: Tensor | None = None) -> Tensor:
        del losses, gramian
        rate = ops.maximum(self.last, _FLOOR) / ops.maximum(self.before_last, _FLOOR)
        rate = ops.where(self.epochs >= 2, rate, 1.0)
        return self.num_tasks * masked_softmax(rate, ops.ones_like(rate), self.temperature) * present

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}
