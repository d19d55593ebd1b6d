"""Heads at different stages of one trunk."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl

X = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
TASKS = ("word", "phrase", "text")


def build(depths, tasks=TASKS):
    stages = [layers.Dense(4, activation="tanh", name=name) for name in ("low", "middle", "high")]
    heads = {task: layers.Dense(1, name="out") for task in tasks}
    return keras_mtl.hierarchical_sharing(keras.Input((5,)), stages, heads, depths=depths)


def test_stages_belong_to_the_tasks_above_them():
    model = build({"word": 1, "phrase": 2})
    assert {v.path for v in model.trainable_variables if "kernel" in v.path} == {
        "shared/low/kernel",
        "shared/phrase_and_text/middle/kernel",
        "text/high/kernel",
        *(f"{task}/out/kernel" for task in TASKS),
    }
    served = {name: model.sharing.tasks_of(model.get_layer(name)) for name in ("shared_low", "text_high")}
    assert served == {"shared_low": TASKS, "text_high": ("text",)}


@pytest.mark.filterwarnings("ignore:Task '.*' had no labelled:UserWarning")
def test_a_low_level_task_leaves_the_upper_stages_alone():
    model = build({"word": 1, "phrase": 2})
    model.compile(keras.optimizers.SGD(0.1), loss="mse", run_eagerly=True)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(X, {"word": X[:, :1]}, verbose=0)
    moved = {v.path for v in model.trainable_variables if np.any(before[v.path] != v.numpy())}
    assert moved == {"shared/low/kernel", "shared/low/bias", "word/out/kernel", "word/out/bias"}


@pytest.mark.oracle
def test_values():
    model = build({"word": 1, "phrase": 2})
    w = {v.path: v.numpy() for v in model.variables}
    tensor, expected = X, {}
    owners = {"low": "shared", "middle": "shared/phrase_and_text", "high": "text"}
    for (stage, owner), task in zip(owners.items(), TASKS, strict=True):
        tensor = np.tanh(tensor @ w[f"{owner}/{stage}/kernel"] + w[f"{owner}/{stage}/bias"])
        expected[task] = tensor @ w[f"{task}/out/kernel"] + w[f"{task}/out/bias"]
    for task in TASKS:
        np.testing.assert_allclose(model(X)[task], expected[task], rtol=1e-4, atol=1e-6)


def test_all_tasks_at_the_top_are_hard_sharing():
    model = build({})
    stages = [layers.Dense(4, activation="tanh", name=name) for name in ("low", "middle", "high")]
    hard = keras_mtl.hard_sharing(keras.Input((5,)), stages, {task: layers.Dense(1, name="out") for task in TASKS})
    assert [v.path for v in hard.variables] == [v.path for v in model.variables]
    hard.set_weights(model.get_weights())
    for task in TASKS:
        np.testing.assert_array_equal(hard(X)[task], model(X)[task])


def test_one_task():
    assert build({}, ("only",)).variables[0].path == "shared/low/kernel"


@pytest.mark.parametrize(
    ("depths", "message"),
    [
        ({"letter": 1}, "keys of `depths` should be tasks"),
        ({"word": 0}, r"`depths\['word'\]` should be an integer from 1 to 3"),
        ({"word": 4}, r"`depths\['word'\]`"),
        ({"word": True}, r"`depths\['word'\]`"),
        (dict.fromkeys(TASKS, 2), "A task should stand after the last of the 3 stages"),
        (2, "`depths` should be a dict"),
    ],
)
def test_bad_depths(depths, message):
    with pytest.raises(ValueError, match=message):
        build(depths)


def test_no_stage_at_all():
    with pytest.raises(ValueError, match="`stages` should have at least one stage"):
        keras_mtl.hierarchical_sharing(keras.Input((4,)), [], {"a": keras.layers.Dense(1)}, depths={})
