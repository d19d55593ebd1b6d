import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.layers._distances import l2_distance, tensor_trace_norm, trace_norm


@pytest.mark.oracle
def test_trace_norm_of_a_known_matrix():
    matrix = np.arange(12, dtype="float32").reshape(3, 4)
    assert float(trace_norm(matrix)) == pytest.approx(24.3646, abs=1e-4)
    assert float(trace_norm(matrix.T)) == pytest.approx(24.3646, abs=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5)])
def test_value_and_gradient_agree_with_svd(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    x = tf.Variable(matrix)
    with tf.GradientTape() as tape:
        norm = trace_norm(x)
    assert float(norm) == pytest.approx(s.sum(), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(norm, x), u @ vt, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradient_of_low_rank_is_finite_and_has_norm_root_of_rank(rank):
    rng = np.random.default_rng(0)
    x = tf.Variable((rng.normal(size=(6, rank)) @ rng.normal(size=(rank, 9))).astype("float32"))
    with tf.GradientTape() as tape:
        norm = trace_norm(x)
    assert np.linalg.norm(tape.gradient(norm, x)) == pytest.approx(np.sqrt(rank), rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-6, 1e6])
def test_gradient_is_finite_for_equal_columns_at_every_scale(scale):
    x = tf.Variable(scale * np.ones((4, 2), "float32"))
    with tf.GradientTape() as tape:
        norm = trace_norm(x)
    gradient = tape.gradient(norm, x)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient, 1 / np.sqrt(8) if scale else 0.0, rtol=1e-4)


@pytest.mark.oracle
def test_tensor_norms_by_their_flattenings():
    tensor = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")

    def nuclear(matrix):
        return np.linalg.svd(matrix, compute_uv=False).sum()

    laf = nuclear(tensor.reshape(6, 4))
    tucker = np.mean([nuclear(np.moveaxis(tensor, i, 0).reshape(tensor.shape[i], -1)) for i in range(3)])
    tt = np.mean([nuclear(tensor.reshape(2, 12)), nuclear(tensor.reshape(6, 4))])
    for name, expected in (("laf", laf), ("tucker", tucker), ("tt", tt)):
        value = tensor_trace_norm(keras.ops.convert_to_tensor(tensor), name)
        assert float(value) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("columns", [2, 4])
def test_l2_distance_is_the_sum_over_pairs(columns):
    weights = list(np.random.default_rng(0).normal(size=(columns, 3, 2)))
    pairs = [(i, j) for i in range(columns) for j in range(i + 1, columns)]
    variables = [tf.Variable(w) for w in weights]
    with tf.GradientTape() as tape:
        distance = l2_distance([v.value() for v in variables])
    assert float(distance) == pytest.approx(sum(np.sum((weights[i] - weights[j]) ** 2) for i, j in pairs))
    expected = [sum(2 * (weights[k] - other) for other in weights) for k in range(columns)]
    np.testing.assert_allclose(tape.gradient(distance, variables), expected, rtol=1e-12)


def test_trace_norm_compiles():
    matrix = tf.constant(np.arange(12, dtype="float32").reshape(3, 4))
    assert float(tf.function(trace_norm, jit_compile=True)(matrix)) == pytest.approx(24.3646, abs=1e-4)
