"""Look-ahead affinities: numbers by hand, nothing changed, mixed kinds of models, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.callbacks import TaskAffinity


def build(optimizer="sgd", tasks="ab", stages=None, **options):
    stages = stages or [layers.Dense(3, use_bias=False, name="shared")]
    heads = {task: layers.Dense(1, use_bias=False, name="out") for task in tasks}
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, heads)
    model.compile(optimizer, loss="mse", **options)
    return model


def data(tasks="ab", count=16, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 4)).astype("float32")
    return x, {task: rng.normal(size=(count, 1)).astype("float32") for task in tasks}


def by_hand(model, x, y, rate, velocity=0.0, momentum=0.0, weights=None):
    """The affinities of a linear model, in NumPy."""
    (w,) = (np.array(v, "float64") for v in model.shared_variables)
    heads = {t: np.array(model.task_variables(t)[0], "float64") for t in y}
    loss = {t: lambda m, t=t: np.mean((x @ m @ heads[t] - y[t]) ** 2) for t in y}
    gradient = {t: 2 / len(x) * x.T @ (x @ w @ heads[t] - y[t]) @ heads[t].T for t in y}
    moved = {t: w + momentum * velocity - rate * (weights or {}).get(t, 1.0) * gradient[t] for t in y}
    flat = {t: g.ravel() / np.linalg.norm(g) for t, g in gradient.items()}
    gains = [[1 - loss[j](moved[i]) / loss[j](w) for j in y] for i in y]
    return np.array(gains), np.array([[flat[i] @ flat[j] for j in y] for i in y])


@pytest.mark.oracle
def test_numbers_by_hand():
    model, (x, y) = build(keras.optimizers.SGD(0.1), "abc"), data("abc")
    measure = TaskAffinity(x, y, batch_size=16)
    measure.set_model(model)
    measure.on_train_begin()
    entry = measure.measure()
    gains, cosines = by_hand(model, x, y, 0.1)
    np.testing.assert_allclose(entry["affinity"], gains, atol=2e-6)
    np.testing.assert_allclose(entry["cosine"], cosines, atol=1e-5)
    # Not symmetric, and not the same as the cosine.
    assert not np.allclose(gains, gains.T)


@pytest.mark.oracle
@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    model, (x, y) = build(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=nesterov)), data()
    model.fit(x, y, verbose=0)
    velocity = next(np.array(v) for v in model.optimizer.variables if "momentum" in v.path and v.shape == (4, 3))
    measure = TaskAffinity(x, y, batch_size=16, with_momentum=True)
    measure.set_model(model)
    measure.on_train_begin()
    # Nesterov's step is m (m v - r g) - r g: as if v were m v, and the rate r were r (1 + m).
    rate, of_velocity = (0.1 * 1.9, 0.81) if nesterov else (0.1, 0.9)
    gains, _ = by_hand(model, x, y, rate, velocity, of_velocity)
    assert np.abs(velocity).max() > 0
    np.testing.assert_allclose(measure.measure()["affinity"], gains, atol=2e-6)


def test_static_weights_and_learning_rates_count():
    model, (x, y) = build(keras.optimizers.SGD(0.1), loss_weights={"a": 0.5, "b": 0.0}), data()
    measure = TaskAffinity(x, y, batch_size=16, learning_rate=0.3)
    measure.set_model(model)
    measure.on_train_begin()
    gains, _ = by_hand(model, x, y, 0.3, weights={"a": 0.5, "b": 0.0})
    np.testing.assert_allclose(measure.measure()["affinity"], gains, atol=2e-6)


def test_training_is_what_it_is_without_it():
    """Same weights, same logs: dropout, batch normalization and weighting state among what could have changed."""

    def train(callbacks):
        keras.utils.set_random_seed(0)
        stages = [[layers.Dense(6), layers.BatchNormalization(), layers.Dropout(0.3)]]
        model = build("adam", stages=stages, weighting="uncertainty")
        history = model.fit(*data(), batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
        return model, history.history

    measure = TaskAffinity(*data(), batch_size=8, every=2)
    (model, logs), (plain, plain_logs) = train([measure]), train([])
    assert len(measure.history) == 1 + 4
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert logs == plain_logs


def test_planted_relations():
    """Two tasks with one label, and one with the opposite."""
    x, y = data("a")
    y = {"a": y["a"], "same": y["a"], "opposite": -y["a"]}
    model = build(keras.optimizers.SGD(0.05), tasks=list(y))
    model.shared_variables[0].assign(np.zeros((4, 3)))  # so that the errors are the labels
    head = np.ones((3, 1), "float32")
    for task in y:
        model.task_variables(task)[0].assign(head)
    measure = TaskAffinity(x, y, batch_size=16)
    measure.set_model(model)
    measure.on_train_begin()
    measure.measure()
    affinity = measure.affinity()
    assert affinity.of("a", "same") > 0 > affinity.of("a", "opposite")
    assert affinity.of("a", "same") == pytest.approx(affinity.of("a", "a"), rel=1e-4)


def test_missing_labels():
    """Tasks that are not both in a batch say nothing about each other."""
    x, y = data("abc")
    y["b"][:] = np.nan
    model = build("sgd", "abc", missing={"b": "nan"})
    measure = TaskAffinity(x, y, batch_size=8, every=1)
    with pytest.warns(UserWarning, match="no labelled example"):
        model.fit(x, y, batch_size=8, callbacks=[measure], verbose=0)
    affinity = measure.affinity()
    assert np.isfinite(affinity.of("a", "c")) and np.isnan(affinity.of("a", "b")) and np.isnan(affinity.of("b", "b"))
    with pytest.raises(ValueError, match="'a' on task 'b'"):
        keras_mtl.analysis.group_tasks(affinity, 2)


def test_data_sets_and_steps_per_execution():
    x, y = data()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    measure = TaskAffinity(batches, every=4)
    model = build("adam", steps_per_execution=2)
    model.fit(batches, epochs=4, callbacks=[measure], verbose=0)  # 16 steps; measured after 2, 4, 8, 12, 16
    assert [entry["step"] for entry in measure.history] == [2, 4, 8, 12, 16]
    assert np.isfinite(measure.affinity("cosine").values).all()


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = data()
    y["a"] = y["b"]
    model = build("adam")
    measure = TaskAffinity(x, y, batch_size=16, every=1, learning_rate=0.1)
    model.fit(x, y, epochs=2, callbacks=[measure], verbose=0)
    assert np.isfinite(measure.affinity().values).all() and measure.affinity().of("a", "a") > 0


def test_embeddings_and_dicts_of_inputs():
    inputs = {"codes": keras.Input((3,), dtype="int32", name="codes"), "x": keras.Input((4,), name="x")}
    codes = layers.Flatten()(layers.Embedding(5, 2)(inputs["codes"]))
    hidden = layers.Concatenate()([codes, layers.Dense(2)(inputs["x"])])
    model = keras_mtl.MultiTaskModel(inputs, {t: layers.Dense(1)(hidden) for t in "ab"})
    model.compile("sgd", loss="mse")
    x, y = data()
    x = {"codes": np.tile(np.arange(3), (16, 1)), "x": x}
    measure = TaskAffinity(x, y, batch_size=8, every=1)
    model.fit(x, y, callbacks=[measure], verbose=0)
    assert (np.diag(measure.affinity().values) > 0).all()


def test_bad_input():
    x, y = data()
    with pytest.raises(ValueError, match="`every`"):
        TaskAffinity(x, y, every=0)
    with pytest.raises(ValueError, match="`y` should be a dict"):
        TaskAffinity(x)
    with pytest.raises(ValueError, match="SGD with momentum"):
        build("adam").fit(x, y, callbacks=[TaskAffinity(x, y, with_momentum=True)], verbose=0)
    heads = {task: layers.Dense(1) for task in "ab"}
    columns = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(2)], heads, shared_depth=0)
    columns.compile("sgd", loss="mse")
    with pytest.raises(ValueError, match="two tasks share"):
        columns.fit(x, y, callbacks=[TaskAffinity(x, y)], verbose=0)
    with pytest.raises(ValueError, match="measurements to average"):
        TaskAffinity(x, y).affinity()
