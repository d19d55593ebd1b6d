"""Gradients of embeddings are sparse. Training with them is that of a dense layer on one-hot vectors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.training.backends import core

WORDS, ROWS = 6, 9
DENSE = np.arange(12.0, dtype="float32").reshape(4, 3)


def sparse(rows, values):
    return tf.IndexedSlices(tf.constant(values, "float32"), tf.constant(rows), tf.constant([4, 3]))


def dense(gradient):
    return tf.convert_to_tensor(gradient).numpy()


def test_arithmetic_is_that_of_dense_gradients():
    first = sparse([1, 3, 1], [[1, 2, 3], [4, 5, 6], [1, 1, 1]])  # a row may come twice
    second = sparse([0, 1], [[1, 0, 0], [0, 1, 0]])
    expected = np.array([[0, 0, 0], [2, 3, 4], [0, 0, 0], [4, 5, 6]], "float32")
    np.testing.assert_array_equal(dense(first), expected)
    np.testing.assert_array_equal(dense(core.scale(first, 0.5)), expected / 2)
    total = core.add(first, second)
    assert isinstance(total, tf.IndexedSlices)
    np.testing.assert_array_equal(dense(total), expected + dense(second))
    for one, other in ((first, tf.constant(DENSE)), (tf.constant(DENSE), first)):
        np.testing.assert_array_equal(core.add(one, other), expected + DENSE)
    assert core.add(None, first) is first
    for condition in (True, False):
        np.testing.assert_array_equal(dense(core.choose(condition, first)), expected * condition)
        np.testing.assert_array_equal(core.choose(condition, tf.constant(DENSE)), DENSE * condition)
    assert np.isnan(dense(core.choose(False, first, np.nan))[[1, 3]]).all()


def model_of(embedding):
    """Two tasks that share an embedding; the second has one of its own, whose output is regularized."""
    keras.utils.set_random_seed(0)
    codes = keras.Input((2,), dtype="int32", name="codes")
    tables = {name: keras.initializers.RandomNormal(seed=i)((WORDS, 3)) for i, name in enumerate(("both", "own"))}

    def look_up(name, **options):
        start = keras.initializers.Constant(tables[name])
        if embedding:
            return keras.layers.Embedding(WORDS, 3, embeddings_initializer=start, name=name, **options)(codes)
        layer = keras.layers.Dense(3, use_bias=False, kernel_initializer=start, name=name, **options)
        return layer(keras.ops.one_hot(codes, WORDS))

    shared, own = look_up("both"), look_up("own", activity_regularizer=keras.regularizers.L2(0.1))
    features = keras.layers.Dense(4, activation="tanh", name="trunk")(keras.layers.Flatten()(shared))
    outputs = {
        "a": keras.layers.Dense(1, name="a")(features),
        "b": keras.layers.Dense(1, name="b")(keras.layers.Concatenate()([features, keras.layers.Flatten()(own)])),
    }
    return keras_mtl.MultiTaskModel(codes, outputs)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("equal", {}),
        ("equal", {"on_nonfinite": "skip_task"}),
        ("mgda", {}),
        ("mgda", {"gradients": "features"}),
        ("mgda", {"gradients": "last_shared", "on_nonfinite": "skip_task"}),
        ("aligned", {}),
        ("dbmtl", {}),
        ("modo", {}),
        ("sdmgrad", {}),
    ],
)
def test_embeddings_train_as_dense_layers_on_one_hot_vectors(weighting, options):
    rng = np.random.default_rng(0)
    x = rng.integers(0, WORDS, (ROWS, 2)).astype("int32")
    y = {task: rng.normal(size=(ROWS, 1)).astype("float32") for task in "ab"}
    found = []
    for embedding in (True, False):
        model = model_of(embedding)
        model.compile("sgd", "mse", weighting=weighting, run_eagerly=True, **options)
        before = [v.numpy() for v in model.trainable_variables]
        model.fit(x, y, batch_size=ROWS, epochs=2, verbose=0, shuffle=False)
        assert all(not np.array_equal(v, old) for v, old in zip(model.trainable_variables, before, strict=True))
        found.append({v.path.split("/")[0] + str(v.shape): v.numpy() for v in model.trainable_variables})
    assert found[0].keys() == found[1].keys()
    for path, value in found[0].items():
        np.testing.assert_allclose(value, found[1][path], rtol=1e-5, atol=1e-6, err_msg=path)
