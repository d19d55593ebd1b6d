"""Arrays as streams of batches, without an end where that is safe."""

import itertools

import keras
import numpy as np
import pytest

from keras_mtl.data._in_memory import InMemory

X = np.arange(10.0).reshape(5, 2)
Y = {"a": np.arange(5), "b": np.array(["p", "q", "r", "s", "t"], object)}


def epochs(stream, steps, count):
    """Rows of `y['a']`, epoch by epoch, and the batches."""
    batches = list(itertools.islice(iter(stream), steps * count))
    rows = [np.asarray(batch[1]["a"]).tolist() for batch in batches]
    return [list(itertools.chain(*rows[i * steps : (i + 1) * steps])) for i in range(count)], batches


def test_each_epoch_has_every_example_once_in_an_order_of_its_own():
    data = InMemory((X, Y), 2)
    assert data.steps == 3

    def drawn(seed):
        keras.utils.set_random_seed(seed)
        return epochs(data.shuffled(), 3, 8)

    found, batches = drawn(0)
    assert all(sorted(rows) == [0, 1, 2, 3, 4] for rows in found) and len({tuple(rows) for rows in found}) > 1
    assert found == drawn(0)[0] != drawn(1)[0]
    for x, y in batches:  # rows stay together
        np.testing.assert_array_equal(np.asarray(x)[:, 0], 2.0 * np.asarray(y["a"]))
        assert [value.decode() for value in np.asarray(y["b"])] == ["pqrst"[i] for i in np.asarray(y["a"])]


def test_in_order():
    found, batches = epochs(InMemory((X, Y), 2).in_order(), 3, 2)
    assert found == [[0, 1, 2, 3, 4]] * 2
    assert [len(y["a"]) for _, y in batches] == [2, 2, 1] * 2
    assert InMemory((X, Y), 100).steps == 1


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_every_epoch_has_its_steps_however_many_are_executed_at_once(at_once):
    """Seven examples in batches of two are four steps, which three at once do not divide."""
    x, y = np.arange(7.0).reshape(7, 1), np.zeros(7)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=at_once)
    data = InMemory((x, y), 2, at_once)
    assert data.steps == (None if at_once == 3 else 4)
    model.fit(data.shuffled(), steps_per_epoch=data.steps, epochs=3, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 12


def test_values_are_as_fit_takes_them():
    """Of Keras' precision, and `None` where a task has no weights."""
    weights = {"a": np.ones(5), "b": None}
    x, y, weight = next(iter(InMemory((X, Y, weights), 2).in_order()))
    assert x.dtype == "float32" and y["a"].dtype == "int64" and weight["a"].dtype == "float32"
    assert weight["b"] is None


def test_fit_trains_as_on_the_arrays():
    """One batch an epoch has no order: the same numbers as from the arrays themselves."""
    found = []
    for stream in (True, False):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        if stream:
            data = InMemory((X, Y["a"]), 5)
            history = model.fit(data.in_order(), steps_per_epoch=data.steps, epochs=3, shuffle=False, verbose=0)
        else:
            history = model.fit(X, Y["a"], batch_size=5, epochs=3, shuffle=False, verbose=0)
        found.append(history.history["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
