"""Mixtures under `tf.distribute`."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import data
from keras_mtl.data import mix
from tests.rows import by_default


def datasets():
    def examples(count, seed):
        x = np.random.default_rng(seed).normal(size=(count, 3)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((x, x[:, :1]))

    return {"a": examples(24, 0), "b": examples(16, 1)}


def run(strategy, own, **options):
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        heads = {task: keras.layers.Dense(1) for task in "ab"}
        model = keras_mtl.hard_sharing(keras.Input((3,)), [keras.layers.Dense(4, activation="tanh")], heads)
        model = keras_mtl.own_inputs(model) if own else model
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
    inputs = "own" if own else "shared"
    mixture = mix(datasets(), batch_size={"a": 8, "b": 4}, inputs=inputs, stop=5, seed=2, **options)
    tested = mix(datasets(), batch_size=4, inputs=inputs, stop="once")
    logs = model.fit(mixture, validation_data=tested, epochs=2, verbose=0).history
    return np.concatenate([np.ravel(w) for w in model.get_weights()]), logs


@pytest.mark.parametrize(
    ("own", "options"),
    by_default(
        [(True, {}), (False, {"sampler": "uniform"})],
        [(own, options) for own in (True, False) for options in ({}, {"sampler": "uniform"})],
    ),
    ids=str,
)
def test_two_replicas_train_as_one(own, options, mirrored_strategy):
    alone, logs = run(None, own, **options)
    together, logs_together = run(mirrored_strategy, own, **options)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert sorted(logs) == sorted(logs_together)
    for name, values in logs.items():
        np.testing.assert_allclose(logs_together[name], values, rtol=1e-4, err_msg=name)


class Recorder(data.Sampler):
    """Draws in turn and keeps how many results it could read at every draw."""

    def __init__(self):
        self.known = []

    def probabilities(self, step, stats):
        self.known.append(int(stats.trained.sum()))
        return np.eye(2)[step % 2]


def test_live_samplers_lag_a_few_steps_behind(mirrored_strategy):
    sampler = Recorder()
    run(mirrored_strategy, True, sampler=sampler)
    lags = np.arange(len(sampler.known)) - sampler.known
    assert lags.min() >= 0 and lags.max() <= 5 and np.all(np.diff(sampler.known) >= 0)


def test_batches_that_replicas_cannot_share_are_refused(mirrored_strategy):
    with mirrored_strategy.scope():
        model = keras_mtl.MultiTaskModel(x := keras.Input((3,)), {"a": keras.layers.Dense(1)(x)})
        model.compile("sgd", loss="mse")
    mixture = mix({"a": datasets()["a"]}, batch_size=3)
    with pytest.raises(ValueError, match="`batch_size` of task 'a' should be a multiple of the number of replicas, 2"):
        model.fit(mixture, verbose=0)


def context(pipelines, index, replicas):
    return tf.distribute.InputContext(pipelines, index, replicas)


def test_workers_share_the_examples_and_draw_alike():
    tasks, seen = [], []
    for index in range(2):
        mixture = mix(datasets(), "uniform", batch_size=4, inputs="own", stop=6, seed=3)
        batches = list(mixture._for_replicas(context(2, index, 2)).take(6))
        tasks.append([y["a"].shape[0] > 0 for _, y in batches])
        seen.append({float(v) for _, y in batches for v in y["a"].numpy().ravel()})
    assert tasks[0] == tasks[1]
    assert not seen[0] & seen[1]


def test_live_samplers_of_several_workers_are_refused():
    mixture = mix(datasets(), data.LossRatio(), batch_size=4, stop=6)
    with pytest.raises(ValueError, match="Several workers cannot agree on what LossRatio reads"):
        mixture._for_replicas(context(2, 0, 2))
