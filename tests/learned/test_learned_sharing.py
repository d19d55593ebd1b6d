"""Sharing that is learned: trees by drawn parents, policies of blocks."""

import keras
import numpy as np
import pytest
from keras.layers import Dense

import keras_mtl
from keras_mtl.learned import (
    PolicyStage,
    adashare,
    branches_of,
    extract_branches,
    fit_policy,
    learning_to_branch,
    policy_of,
    sample_policies,
)

TASKS = ("a", "b", "c")
LOSS = dict.fromkeys(TASKS, "mse")


def heads():
    return {task: Dense(1) for task in TASKS}


def data(size=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(size, 5)).astype("float32"), {t: rng.normal(size=(size, 1)) for t in TASKS}


def branching(**options):
    stages = [Dense(6, activation="tanh", name=name) for name in ("low", "middle", "high")]
    return learning_to_branch(keras.Input((5,)), stages, heads(), **options)


def blocks(count=3):
    return [Dense(6, name="stem"), *(Dense(6, activation="tanh", name=f"block_{i}") for i in range(count))]


def gates(model):
    return {stage.scope: stage.mixer for stage in model.layers if getattr(stage, "mixer", None)}


def choose(model, **parents):
    """Sets the largest logit of each child's gate."""
    for scope, gate in gates(model).items():
        label = scope.removeprefix("shared/").replace("/", "_")
        for suffix, parent in parents.items():
            if label == suffix:
                gate.logits.assign(np.eye(gate.num_options)[parent])


def test_the_extracted_tree_predicts_as_the_whole():
    model = branching()
    x, _ = data()
    choose(
        model, a_parent=2, b_parent=2, c_parent=1, branch_3_parent_of_high=0, branch_2_parent_of_high=1,
        branch_1_parent_of_middle=1, branch_2_parent_of_middle=1,
    )  # fmt: skip
    assert branches_of(model) == [[["a", "b", "c"]], [["a", "b"], ["c"]], [["a", "b"], ["c"]]]
    extracted = extract_branches(model)
    for task in TASKS:
        np.testing.assert_allclose(extracted(x)[task], model(x)[task], rtol=1e-6)
    assert extracted.count_params() == 36 + 2 * 2 * 42 + 3 * 7
    assert {v.path.split("/")[0] for v in extracted.variables} == {"shared", *TASKS}


def test_gates_learn_and_prediction_is_deterministic():
    model = branching(warmup_steps=1, temperature=1.0)
    model.compile("sgd", loss=LOSS, run_eagerly=True)
    x, y = data()
    before = {scope: gate.logits.numpy() for scope, gate in gates(model).items()}
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    assert all((gate.logits.numpy() == before[scope]).all() for scope, gate in gates(model).items())
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    assert all((gate.logits.numpy() != before[scope]).any() for scope, gate in gates(model).items())
    assert {int(gate.steps) for gate in gates(model).values()} == {9}
    np.testing.assert_array_equal(model(x)["a"], model(x)["a"])


def test_only_the_two_learned_builders_are_read():
    plain = keras_mtl.hard_sharing(keras.Input((5,)), blocks(), heads())
    with pytest.raises(ValueError, match="`learning_to_branch` made"):
        branches_of(plain)
    with pytest.raises(ValueError, match="`adashare`"):
        policy_of(plain)
    with pytest.raises(ValueError, match="`adashare`"):
        fit_policy(plain, None, None, epochs=1)


def test_blocks_wait_for_those_above():
    model = adashare(keras.Input((5,)), blocks(), heads(), warmup_steps=10, curriculum_steps=5)
    waits = {scope: gate.warmup_steps for scope, gate in gates(model).items()}
    assert [waits[f"a/policy/block_{i}"] for i in range(3)] == [20, 15, 10]
    assert "a/policy/stem" not in waits  # its output has another shape


def test_a_policy_runs_and_skips():
    policy = {"a": [1, 0, 1], "b": [1, 0, 0], "c": [0, 0, 0]}
    keras.utils.set_random_seed(0)
    fixed = adashare(keras.Input((5,)), blocks(), heads(), policy=policy)
    assert fixed.count_params() == 36 + 2 * 42 + 3 * 7
    learned = adashare(keras.Input((5,)), blocks(), heads())
    for task, runs in policy.items():
        for index, run in enumerate(runs):
            gates(learned)[f"{task}/policy/block_{index}"].logits.assign([run, 1 - run])
    assert policy_of(learned) == {task: [bool(run) for run in runs] for task, runs in policy.items()}
    for layer in fixed.layers:
        if layer.weights:
            learned.get_layer(layer.name).set_weights(layer.get_weights())
    x, _ = data()
    for task in TASKS:
        np.testing.assert_allclose(learned(x)[task], fixed(x)[task], rtol=1e-5, atol=1e-6)
    z = x @ fixed.get_layer("shared_stem").get_weights()[0]
    kernel, bias = fixed.get_layer("b").get_weights()
    inner, shift = fixed.get_layer("shared_block_0").get_weights()
    np.testing.assert_allclose(fixed(x)["b"], (z + np.tanh(z @ inner + shift)) @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_sampled_policies_follow_the_probabilities():
    model = adashare(keras.Input((5,)), blocks(2), heads())
    gates(model)["a/policy/block_0"].logits.assign([2.0, 0.0])
    drawn = sample_policies(model, 2000, seed=0)
    assert np.mean([policy["a"][0] for policy in drawn]) == pytest.approx(1 / (1 + np.exp(-2)), abs=0.03)
    assert np.mean([policy["b"][1] for policy in drawn]) == pytest.approx(0.5, abs=0.035)


def test_weights_and_policy_train_by_turns():
    model = adashare(keras.Input((5,)), blocks(2), heads(), warmup_steps=2)
    model.compile("sgd", loss=LOSS)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append({v.path: v.numpy() for v in model.trainable_variables + model.non_trainable_variables})

        on_epoch_end = on_epoch_begin

    x, y = data()
    halves = [(x[part], {t: v[part] for t, v in y.items()}) for part in (np.s_[:8], np.s_[8:])]
    history = fit_policy(model, *halves, epochs=4, callbacks=[Watch()], verbose=0)
    assert len(history["loss"]) == 4 and len(history["policy_loss"]) == 3  # the first epochs warm up

    def moved(before, after, of_policy):
        return [
            path for path in before if path.endswith("logits") == of_policy and "seed" not in path
            and not path.endswith("steps") and (before[path] != after[path]).any()
        ]  # fmt: skip

    for epoch in range(4):
        assert moved(seen[2 * epoch], seen[2 * epoch + 1], of_policy=False)
        assert not moved(seen[2 * epoch], seen[2 * epoch + 1], of_policy=True)
    for epoch in range(3):
        assert not moved(seen[2 * epoch + 1], seen[2 * epoch + 2], of_policy=False)
    assert moved(seen[1], seen[-1], of_policy=True)
    assert all(v.trainable for stage in gates(model).values() for v in stage.trainable_variables)


def test_by_default_the_sparsity_of_a_skipped_block_is_bounded():
    """The official code's term falls to 0 where all skip; the published one falls without end."""

    def sparsity_of(**options):
        model = adashare(keras.Input((5,)), blocks(1), heads(), sparsity=1.0, sharing=0.0, **options)
        for gate in gates(model).values():
            gate.logits.assign([-50.0, 0.0])
        stages = {layer.name: layer for layer in model.layers if isinstance(layer, PolicyStage)}
        return sum(float(loss) for stage in stages.values() if (loss := stage.joint_loss(stages)) is not None)

    assert sparsity_of() == pytest.approx(0.0, abs=1e-6)
    assert sparsity_of(form="paper") == pytest.approx(-150.0)  # three tasks


def test_bad_input():
    with pytest.raises(ValueError, match="keep its input's shape"):
        adashare(keras.Input((5,)), [Dense(6), Dense(7)], heads())
    with pytest.raises(ValueError, match="each of the 3 blocks"):
        adashare(keras.Input((5,)), blocks(), heads(), policy={"a": [1, 1, 1], "b": [1], "c": [1, 1, 1]})
    with pytest.raises(ValueError, match="`num_branches`"):
        branching(num_branches=0)
    model = adashare(keras.Input((5,)), blocks(), heads())
    with pytest.raises(ValueError, match="`gradients` should be 'parameters'"):
        model.compile("sgd", loss=LOSS, weighting="mgda", gradients="features")
