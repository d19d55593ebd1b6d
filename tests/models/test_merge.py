"""Task arithmetic and TIES against their definitions, entry by entry, and models that do not fit."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

RNG = np.random.default_rng(0)


def network(units=4):
    return keras.Sequential([keras.Input((3,)), layers.Dense(units, activation="tanh"), layers.Dense(2)])


def tuned_from(base, seed):
    rng = np.random.default_rng(seed)
    model = keras.models.clone_model(base)
    model.set_weights([w + rng.standard_normal(w.shape).astype("float32") for w in base.get_weights()])
    return model


BASE = network()
TUNED = {task: tuned_from(BASE, seed) for seed, task in enumerate("abc")}
CHANGES = np.array(
    [
        np.concatenate([(t - b).ravel() for t, b in zip(model.get_weights(), BASE.get_weights(), strict=True)])
        for model in TUNED.values()
    ],
    "float64",
)


def flat(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


@pytest.mark.oracle
def test_arithmetic_adds_the_changes():
    merged = keras_mtl.merge(BASE, TUNED, method="arithmetic", scale=0.5)
    np.testing.assert_allclose(flat(merged), flat(BASE) + 0.5 * CHANGES.sum(axis=0), rtol=1e-5, atol=1e-6)
    mean = keras_mtl.merge(BASE, TUNED, method="arithmetic", scale=1 / 3)
    np.testing.assert_allclose(flat(mean), np.mean([flat(m) for m in TUNED.values()], axis=0), rtol=1e-5, atol=1e-6)
    default = keras_mtl.merge(BASE, TUNED, method="arithmetic")
    np.testing.assert_allclose(flat(default), flat(BASE) + 0.4 * CHANGES.sum(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.oracle
def test_ties_entry_by_entry():
    keep = 0.5
    count = round(keep * CHANGES.shape[1])
    expected = flat(BASE).astype("float64")
    largest = [set(np.argsort(-np.abs(row))[:count]) for row in CHANGES]
    for place in range(CHANGES.shape[1]):
        kept = [row[place] if place in largest[k] else 0.0 for k, row in enumerate(CHANGES)]
        sign = np.sign(sum(kept))
        agreeing = [value for value in kept if value != 0 and np.sign(value) == sign]
        if agreeing:
            expected[place] += 2.0 * np.mean(agreeing)
    merged = keras_mtl.merge(BASE, TUNED, keep=keep, scale=2.0)
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-4, atol=1e-5)


def test_what_was_given_stays_and_the_result_is_a_stage():
    before = [flat(model) for model in (BASE, *TUNED.values())]
    merged = keras_mtl.merge(BASE, TUNED)
    for old, model in zip(before, (BASE, *TUNED.values()), strict=True):
        np.testing.assert_array_equal(old, flat(model))
    assert merged is not BASE and type(merged) is type(BASE)
    model = keras_mtl.hard_sharing(keras.Input((3,)), [merged], {task: layers.Dense(1) for task in TUNED})
    np.testing.assert_array_equal(flat(model.get_layer("shared_" + merged.name).stack[0]), flat(merged))


def test_frozen_weights_stay_and_statistics_are_averaged():
    def make(mean):
        layer = keras.Sequential([keras.Input((3,)), layers.Dense(2, trainable=False), layers.BatchNormalization()])
        layer.layers[1].moving_mean.assign(mean)
        return layer

    base = make([0.0, 0.0])
    tuned = {"a": make([2.0, 4.0]), "b": make([4.0, 0.0])}
    for model in tuned.values():
        model.layers[0].set_weights(base.layers[0].get_weights())
        model.layers[1].gamma.assign([2.0, 2.0])
    merged = keras_mtl.merge(base, tuned, keep=1.0)
    np.testing.assert_array_equal(merged.layers[0].kernel, base.layers[0].kernel)
    np.testing.assert_array_equal(merged.layers[1].moving_mean, [3.0, 2.0])
    np.testing.assert_array_equal(merged.layers[1].gamma, [2.0, 2.0])


@pytest.mark.oracle
def test_conflicts():
    found = keras_mtl.merge_conflicts(BASE, TUNED)
    assert found["tasks"] == ["a", "b", "c"]
    lengths = np.linalg.norm(CHANGES, axis=1)
    np.testing.assert_allclose(found["lengths"], lengths, rtol=1e-5)
    np.testing.assert_allclose(found["cosines"], CHANGES @ CHANGES.T / np.outer(lengths, lengths), atol=1e-6)
    cancelled = 1 - np.abs(CHANGES.sum(axis=0)).sum() / np.abs(CHANGES).sum()
    np.testing.assert_allclose(found["cancelled"], cancelled, rtol=1e-5)
    same = keras_mtl.merge_conflicts(BASE, {"a": TUNED["a"], "b": TUNED["a"]})
    assert abs(same["cancelled"]) < 1e-9
    assert keras_mtl.merge_conflicts(BASE, {"a": BASE, "b": BASE})["cancelled"] == 0.0


def test_merging_helps_where_tasks_change_different_weights():
    """Two tasks that each learned a column of their own: the merged layer has both."""
    base = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_initializer="zeros")])
    tuned = {}
    for column, task in enumerate("ab"):
        tuned[task] = keras.models.clone_model(base)
        kernel = np.zeros((3, 2), "float32")
        kernel[:, column] = [1.0, 2.0, 3.0]
        tuned[task].set_weights([kernel, np.zeros(2, "float32")])
    merged = keras_mtl.merge(base, tuned, keep=0.5)
    np.testing.assert_array_equal(merged.get_weights()[0], [[1, 1], [2, 2], [3, 3]])
    assert keras_mtl.merge_conflicts(base, tuned)["cancelled"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tuned": {"a": TUNED["a"], "b": network(5)}},
            r"`tuned\['b'\]` should be like `base`. Received: shape \(3, 5\)",
        ),
        (
            {"tuned": {"a": TUNED["a"], "b": keras.Sequential([keras.Input((3,)), layers.Dense(4)])}},
            r"`tuned\['b'\]` should be like `base`. Received: 2 variables in place of 4",
        ),
        ({"tuned": {"a": TUNED["a"], "b": layers.Dense(3)}}, r"`tuned\['b'\]` should be a built Keras layer"),
        ({"tuned": {"a": TUNED["a"]}}, "`tuned` should be a dict from two tasks or more"),
        ({"base": layers.Dense(2)}, "`base` should be a built Keras layer"),
        ({"method": "mean"}, "`method` should be one of"),
        ({"keep": 0}, "`keep` should be a finite number, above 0 and at most 1"),
        ({"scale": "1"}, "`scale` should be a finite number"),
    ],
)
def test_models_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_mtl.merge(**{"base": BASE, "tuned": TUNED, **arguments})
