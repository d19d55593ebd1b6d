"""Ranking by hand."""

import keras
import numpy as np
import pytest

from keras_mtl.metrics import NDCG, higher_is_better


def value(k, relevance, scores, weight=None):
    metric = NDCG(k)
    metric.update_state(relevance, scores, weight)
    return float(metric.result())


def test_graded_relevance_by_hand():
    relevance, scores = [[3.0, 0.0, 1.0, 2.0]], [[0.1, 0.9, 0.8, 0.5]]  # ranked: 0, 1, 2, 3
    log = np.log2([2, 3, 4, 5])
    gain = np.array([0.0, 1.0, 3.0, 7.0]) / log
    best = np.array([7.0, 3.0, 1.0, 0.0]) / log
    for k in (1, 2, 3, 4, 9):
        assert value(k, relevance, scores) == pytest.approx(gain[:k].sum() / best[:k].sum(), rel=1e-6)


def test_queries_without_relevant_documents_and_weights():
    relevance, scores = [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    second = 1 / np.log2(3)
    assert value(2, relevance, scores) == pytest.approx((1 + second) / 2)
    assert value(2, relevance, scores, [3.0, 5.0, 1.0]) == pytest.approx((3 + second) / 4)


def test_config_direction_and_errors():
    metric = NDCG(3)
    assert metric.name == "ndcg_3" and higher_is_better("ranking_ndcg_3")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.k == 3 and again.name == "ndcg_3"
    with pytest.raises(ValueError, match="`k`"):
        NDCG(0)
