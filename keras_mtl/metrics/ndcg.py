"""Normalized discounted cumulative gain of a ranking."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_mtl._checks import check_integer
from keras_mtl._types import Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class NDCG(keras.metrics.Mean):
    """Mean normalised discounted cumulative gain of the first k documents.

    `DCG@k = sum_i (2^r_i - 1) / log2(i + 1)` over the documents in the order of
    their scores, i from 1 to k, with relevance `r_i`; divided by the largest
    that the relevances allow. Equal scores rank in the order in which the
    documents stand. Queries without a relevant document are left out.

    Args:
        k: Integer. How many documents count.
        name: String. Defaults to `None`: `"ndcg_<k>"`.

    Call arguments:
        y_true: Relevances of shape `(queries, documents)`, at least 0.
        y_pred: Scores of the same shape.
        sample_weight: `None` or weights of shape `(queries,)`.

    Example:

    >>> ndcg = keras_mtl.metrics.NDCG(2)
    >>> ndcg.update_state([[0.0, 1.0, 0.0]], [[3.0, 2.0, 1.0]])
    >>> round(float(ndcg.result()), 4)
    0.6309

    Reference:

    - K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002 (with the gains `2^r - 1`
      of C. Burges et al., "Learning to Rank using Gradient Descent", ICML 2005).
    """

    def __init__(self, k: int, name: str | None = None, dtype: str | None = None) -> None:
        k = check_integer(k, "k", 1)
        super().__init__(name=name or f"ndcg_{k}", dtype=dtype)
        self.k = k

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        relevance, scores = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        best = self._gain(relevance, relevance)
        known = ops.cast(best > 0, "float32")
        values = self._gain(relevance, scores) / ops.where(best > 0, best, ops.ones_like(best))
        weights = known if sample_weight is None else known * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        return super().update_state(values, sample_weight=weights)

    def _gain(self, relevance: Tensor, scores: Tensor) -> Tensor:
        order = ops.argsort(-scores, axis=-1)
        ranked = ops.take_along_axis(relevance, order, axis=-1)[:, : self.k]
        places = ops.arange(2, ranked.shape[1] + 2, dtype="float32")
        return ops.sum((ops.power(2.0, ranked) - 1.0) * ops.log(2.0) / ops.log(places), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"k": self.k, "name": self.name, "dtype": self.dtype}
