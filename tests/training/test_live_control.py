"""Weights and frozen layers that change in the middle of `fit`."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = {"a": X[:, :1] + 1.0, "b": X[:, 1:2] - 1.0}


def build(optimizer=None, **options):
    stages = [[layers.Dense(4, name="fc"), layers.BatchNormalization(scale=False, center=False, name="bn")]]
    heads = {"a": layers.Dense(1, name="a_out"), "b": layers.Dense(1, name="b_out")}
    model = keras_mtl.hard_sharing(keras.Input((3,)), stages, heads)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss="mse", **options)
    return model


class AfterSteps(keras.callbacks.Callback):
    """Does something after the given step, and keeps the weights of every step."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action, self.weights = step, action, []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append({v.path: np.array(v) for v in self.model.variables})
        if len(self.weights) == self.step:
            self.action(self.model)


def moving(callback, step):
    """Parts of the model that step number `step`, from 1, changed."""
    before, after = callback.weights[step - 2 : step]
    return {path.split("/")[0] for path in after if not np.array_equal(before[path], after[path])}


def fit(model, callback, **options):
    model.fit(X, Y, batch_size=4, verbose=0, shuffle=False, callbacks=[callback], **options)
    return callback


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_a_weight_changes_with_the_next_step(weighting):
    keep = fit(build(weighting=weighting), AfterSteps(3, lambda model: model.set_task_weights({"a": 0.0})))
    assert {"shared", "a", "b"} <= moving(keep, 3)
    assert "a" not in moving(keep, 4) and {"shared", "b"} <= moving(keep, 4)


def test_the_next_step_is_that_of_the_new_weight():
    """The step after the change equals one of a model compiled with the new weight."""
    keep = fit(build(), AfterSteps(3, lambda model: model.set_task_weights({"b": 0.25})))
    other = build(loss_weights={"b": 0.25})
    for variable in other.variables:
        variable.assign(keep.weights[2][variable.path])
    other.train_on_batch(X[12:16], {task: labels[12:16] for task, labels in Y.items()})
    for variable in other.variables:
        np.testing.assert_allclose(np.array(variable), keep.weights[3][variable.path], rtol=1e-5, atol=1e-7)


def freeze(part):
    def action(model):
        for layer in model.layers:
            if getattr(layer, "scope", None) == part:
                layer.trainable = False

    return action


JIT = pytest.param({"jit_compile": True}, marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [{}, {"weighting": "mgda"}, {"run_eagerly": True}, JIT])
def test_a_head_frozen_in_a_callback_stays_from_the_next_step_on(options):
    keep = fit(build(keras.optimizers.Adam(0.1), **options), AfterSteps(3, freeze("a")))
    assert {"shared", "a", "b"} <= moving(keep, 3)
    for step in (4, 5, 6):
        assert "a" not in moving(keep, step) and {"shared", "b"} <= moving(keep, step)


def test_a_trunk_frozen_in_a_callback_stays_with_its_statistics():
    """Adam's momentum does not push it on, and batch normalization without variables to train keeps its means."""
    keep = fit(build(keras.optimizers.Adam(0.1)), AfterSteps(3, freeze("shared")))
    assert {"shared", "a", "b"} <= moving(keep, 3)
    for step in (4, 5, 6):
        assert "shared" not in moving(keep, step) and {"a", "b"} <= moving(keep, step)


def test_batch_normalization_alone():
    def action(model):
        model.get_layer("shared_stage_1").stack[-1].trainable = False

    keep = fit(build(), AfterSteps(3, action))
    statistics = [{path: value for path, value in weights.items() if "moving" in path} for weights in keep.weights]
    assert all(not np.array_equal(statistics[1][path], statistics[2][path]) for path in statistics[0])
    for later in statistics[3:]:
        for path, value in statistics[2].items():
            np.testing.assert_array_equal(value, later[path])


def test_what_is_released_trains_again():
    keep = AfterSteps(2, freeze("a"))

    def release(model):
        model.get_layer("a").trainable = True

    model = build()
    again = AfterSteps(4, release)
    model.fit(X, Y, batch_size=4, verbose=0, callbacks=[keep, again])
    assert ["a" in moving(keep, step) for step in (2, 3, 4, 5, 6)] == [True, False, False, True, True]


def test_freezing_all_that_a_weighting_needs_raises():
    with pytest.raises(ValueError, match=r"MGDA needs trainable variables.*Is its trunk frozen"):
        fit(build(weighting="mgda"), AfterSteps(3, freeze("shared")))


def test_releasing_what_the_optimizer_does_not_know_raises():
    model = build(keras.optimizers.Adam(0.1))
    freeze("shared")(model)
    model.fit(X, Y, batch_size=8, verbose=0)

    def release(model):
        model.get_layer("shared_stage_1").trainable = True

    with pytest.raises(Exception, match=r"(?i)optimizer"):
        fit(model, AfterSteps(1, release))


def test_the_step_is_traced_once_more_and_no_more():
    model = build()
    made = []
    original = model.make_train_function
    model.make_train_function = lambda force=False: (made.append(force), original(force=force))[1]
    fit(model, AfterSteps(3, freeze("a")), epochs=3)
    assert made == [False, True]
