"""Scaled cosines of queries and documents."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.retrieval import CosineScores


def vectors(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_given_documents_and_those_of_the_batch():
    query, documents = vectors(4, 3), vectors(4, 5, 3)
    np.testing.assert_allclose(CosineScores(7)([query, documents]), 7 * cosine(query[:, None], documents), rtol=1e-5)
    own = documents[:, 0]
    scores = CosineScores(in_batch=True)([query, own])
    np.testing.assert_allclose(scores, 10 * cosine(query[:, None], own[None]), rtol=1e-5)


def test_an_empty_text_scores_zero_and_has_a_finite_gradient():
    query = tf.Variable(np.zeros((1, 3), "float32"))
    with tf.GradientTape() as tape:
        scores = CosineScores()([query.value(), vectors(1, 2, 3)])
    assert np.isfinite(tape.gradient(scores, query)).all() and not np.any(scores)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="'scores' should get queries"):
        CosineScores(name="scores")([vectors(4, 3), vectors(4, 3)])
    with pytest.raises(ValueError, match="should get queries"):
        CosineScores(in_batch=True)([vectors(4, 3), vectors(4, 2)])
    layer = CosineScores(gamma=3, in_batch=True)
    assert CosineScores.from_config(layer.get_config()).get_config() == layer.get_config()
