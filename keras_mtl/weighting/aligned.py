"""Aligned-MTL: task gradients with their principal components made equal."""

from __future__ import annotations

from typing import Any, Literal

from keras import ops

from keras_mtl._types import Tensor
from keras_mtl.weighting._present import equal_shares
from keras_mtl.weighting._scaling import RANK_TOLERANCE, unit_diagonal
from keras_mtl.weighting.gramian_weighting import GramianWeighting
from keras_mtl.weighting.registry import register

SCALE_MODES = ("min", "median", "rmse")


@register("aligned")
class AlignedMTL(GramianWeighting):
    r"""Mean of the task gradients after their principal components are made orthogonal and equal.

    With the Gramian's eigenvalues that are not zero, `G = V L V^T`, the weights are

    ```math
    w = \sqrt{s}\, V \Lambda^{-1/2} V^\top u, \quad u_k = 1 / K
    ```

    The scale s is the smallest (`"min"`, the paper's), the median (the lower one, for an even
    number) or the mean (`"rmse"`) of those eigenvalues.

    How many eigenvalues are not zero is judged on the matrix of cosines, so that a small loss is
    not taken for a missing one.

    Scale: mean-like for orthogonal gradients of equal norm, smaller otherwise with `"min"`.

    Degenerate gradients: tasks with a zero gradient get weight 0; duplicate and opposite gradients
    count as one principal component, so opposite gradients cancel.

    Args:
        scale_mode: `"min"`, `"median"` or `"rmse"`. Defaults to `"min"`.
        reduction: See `GramianWeighting`. Defaults to `None`.
        normalize: See `GramianWeighting`. Defaults to `None`.
        every: See `GramianWeighting`. Defaults to `1`.
        smoothing: See `GramianWeighting`. Defaults to `0.0`.
        name: String. Name of the weighting.

    Raises:
        ValueError: If `scale_mode` is unknown.

    Example:

    >>> weighting = keras_mtl.weighting.AlignedMTL()
    >>> np.round(weighting.solve(np.array([[18.0, -22.0], [-22.0, 38.0]])), 4).tolist()
    [0.5591, 0.4083]

    References:

    - Senushkin et al., "Independent Component Alignment for Multi-Task Learning", CVPR 2023,
      arXiv:2305.19000.

    Deviations: the official code uses `u_k = 1`, K times these weights (`reduction="sum"` gives a
    sum-like scale), and judges zero eigenvalues on the Gramian itself.
    """

    def __init__(
        self,
        scale_mode: Literal["min", "median", "rmse"] = "min",
        reduction: Literal["sum", "mean"] | None = None,
        normalize: Literal["norm", "loss", "loss+"] | None = None,
        every: int = 1,
        smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, normalize=normalize, every=every, smoothing=smoothing, name=name)
        if scale_mode not in SCALE_MODES:
            raise ValueError(f"`scale_mode` should be one of {SCALE_MODES}. Received: scale_mode={scale_mode!r}")
        self.scale_mode = scale_mode

    def solve(self, gramian: Tensor, present: Tensor | None = None) -> Tensor:
        cosines, norms, alive, present = unit_diagonal(gramian, present)
        size = norms.shape[0]
        live = ops.cast(alive, "float64")
        largest = ops.max(live * norms)
        relative = live * norms / ops.where(largest > 0, largest, 1.0)
        # Dead tasks have an eigenvalue of 1 among the cosines and of 0 here: neither counts.
        angles = ops.eigh(cosines * live[:, None] * live[None, :])[0]
        rank = ops.sum(ops.cast(angles > RANK_TOLERANCE * size * ops.max(angles), "int32"))
        values, vectors = ops.eigh(cosines * relative[:, None] * relative[None, :])
        order = ops.arange(size, dtype="int32")
        kept = ops.logical_and(order >= size - rank, values > 0)
        values = ops.where(kept, values, 0.0)
        if self.scale_mode == "rmse":
            scale = ops.sum(values) / ops.maximum(ops.cast(rank, "float64"), 1.0)
        else:
            place = size - rank if self.scale_mode == "min" else size - 1 - rank // 2
            # Where norms are far apart, a solver's error may leave nothing of the smallest eigenvalues.
            place = ops.minimum(ops.maximum(place, size - ops.sum(ops.cast(kept, "int32"))), size - 1)
            scale = ops.sum(ops.where(order == place, values, 0.0))
        ratio = ops.where(kept, ops.sqrt(scale / ops.where(kept, values, 1.0)), 0.0)
        shares = equal_shares(present) * live
        projected = ratio * ops.matmul(shares[None, :], vectors)[0]
        return ops.where(alive, ops.matmul(vectors, projected[:, None])[:, 0], 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale_mode": self.scale_mode}
