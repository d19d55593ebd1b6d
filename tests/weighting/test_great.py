"""GREAT: scaled gradients, the adversary and its opponent worked out again, and what it does in `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.weighting import GREAT, Sequential

RNG = np.random.default_rng(0)
K, B, D = 3, 5, 4
GRADIENTS = RNG.normal(size=(K, B, D)).astype("float32") * np.array([1.0, 3.0, 0.3], "float32")[:, None, None]


def built(**options):
    keras.utils.set_random_seed(0)
    weighting = GREAT(**options)
    weighting.build((K, D))
    weighting.scales.assign(RNG.uniform(0.5, 2.0, (K, D)))
    return weighting


def by_hand(weighting, gradients, counted):
    """The adversary's loss with the scales as they are, and how often it is right."""
    scales = tf.Variable(weighting.scales.numpy())
    network = [tf.Variable(v.numpy()) for v in (*weighting.hidden.variables, *weighting.guess.variables)]
    with tf.GradientTape() as tape:
        scaled = gradients * scales[:, None, :]
        size = np.sqrt((scaled.numpy()[counted] ** 2).mean())
        rows = tf.boolean_mask(scaled / size, counted)
        tasks = np.nonzero(counted)[0]
        w1, b1, w2, b2 = network
        guesses = tf.matmul(tf.nn.relu(tf.matmul(rows, w1) + b1), w2) + b2
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tasks, guesses))
    found = tape.gradient(loss, [scales, *network])
    right = np.mean(np.argmax(guesses, axis=1) == tasks)
    return scaled.numpy(), float(loss), [g.numpy() for g in found], right


@pytest.mark.oracle
@pytest.mark.parametrize("strength", [0.0, 0.7])
@pytest.mark.parametrize("gaps", [False, True])
def test_scales_adversary_and_reversed_gradient_by_hand(strength, gaps):
    """With gaps, a task is absent and an example of another has no label."""
    weighting = built(strength=strength)
    gradients, present, counted = GRADIENTS.copy(), np.ones(K, "float32"), np.ones((K, B), bool)
    if gaps:
        gradients[1], present[1], counted[1] = 0.0, 0.0, False
        gradients[0, 2], counted[0, 2] = 0.0, False
    expected, loss, (of_scales, *of_network), right = by_hand(weighting, gradients, counted)
    variables = [weighting.scales, *weighting.hidden.variables, *weighting.guess.variables]
    before = float(weighting.probe_accuracy)
    with tf.GradientTape() as tape:
        scaled, objective = weighting.align(tf.constant(gradients), tf.constant(present))
    found = tape.gradient(objective, [v.value for v in variables])
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)
    assert float(objective) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found[0], -strength * of_scales, rtol=1e-4, atol=1e-6)
    for mine, by_tape in zip(found[1:], of_network, strict=True):
        np.testing.assert_allclose(mine, by_tape, rtol=1e-4, atol=1e-6)
    assert float(weighting.probe_accuracy) == pytest.approx(0.98 * before + 0.02 * right, rel=1e-5)


def test_scales_stay_between_their_limits():
    weighting = built(min_scale=0.5, max_scale=2.0)
    clipped = weighting.scales.constraint(keras.ops.convert_to_tensor([[0.1, 1.0, 9.0, 2.0]]))
    np.testing.assert_allclose(clipped, [[0.5, 1.0, 2.0, 2.0]])


X = RNG.normal(size=(400, 8)).astype("float32")
Y = {task: np.tanh(X @ RNG.normal(size=(8, 1)) / 2).astype("float32") for task in "abc"}
WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.3}


def build(weighting, optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((8,)),
        [layers.Dense(16, activation="tanh", name="fc")],
        {task: layers.Dense(1, name="out") for task in Y},
    )
    model.compile(optimizer, loss="mse", loss_weights=WEIGHTS, weighting=weighting, **options)
    return model


@pytest.mark.oracle
def test_a_step_of_the_trunk_and_of_the_heads_by_hand():
    """The trunk gets the sum of the scaled gradients, the heads their own task's plain one."""
    model = build(GREAT(strength=0.0), keras.optimizers.SGD(0.1), run_eagerly=True)
    scales = RNG.uniform(0.5, 2.0, (3, 16)).astype("float32")
    model.weighting.scales.assign(scales)
    kernel, bias = (v.numpy() for v in model.shared_variables)
    heads = {task: [v.numpy() for v in model.task_variables(task)] for task in Y}
    with tf.GradientTape(persistent=True) as tape:
        w, b = tf.Variable(kernel), tf.Variable(bias)
        features = tf.tanh(tf.matmul(X, w) + b)
        own = {task: [tf.Variable(v) for v in heads[task]] for task in Y}
        held = tf.identity(features)
        tape.watch(held)
        losses = {
            task: WEIGHTS[task] * tf.reduce_mean((tf.matmul(held, k) + c - Y[task]) ** 2)
            for task, (k, c) in own.items()
        }
    combined = tf.add_n([scales[i] * tape.gradient(losses[task], held) for i, task in enumerate(Y)])
    expected = tape.gradient(features, [w, b], output_gradients=combined)
    model.fit(X, Y, batch_size=len(X), verbose=0)
    for new, old, gradient in zip(model.shared_variables, (kernel, bias), expected, strict=True):
        np.testing.assert_allclose(new, old - 0.1 * gradient.numpy(), rtol=1e-4, atol=1e-6)
    for task in Y:
        gradients = tape.gradient(losses[task], own[task])
        for new, old, gradient in zip(model.task_variables(task), heads[task], gradients, strict=True):
            np.testing.assert_allclose(new, old - 0.1 * gradient.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_adversary_learns_and_the_scales_make_it_harder():
    """Over five seeds of a larger study the probe fell by 0.01 to 0.08; that it falls is all that is asserted."""
    accuracy = {}
    for strength in (0.0, 1.0):
        model = build(GREAT(strength), keras.optimizers.Adam(0.005), steps_per_execution=8)
        before = [v.numpy() for v in model.weighting.trainable_variables]
        logs = model.fit(X, Y, batch_size=50, epochs=40, verbose=0).history
        accuracy[strength] = float(model.weighting.probe_accuracy)
        moved = [
            np.abs(v.numpy() - old).max() for v, old in zip(model.weighting.trainable_variables, before, strict=True)
        ]
        assert (moved[0] > 0) == (strength > 0) and min(moved[1:]) > 0
        if strength == 0:
            assert [logs[f"{task}_weight"][-1] for task in Y] == pytest.approx(list(WEIGHTS.values()))
    assert accuracy[0.0] > 0.9 and accuracy[1.0] < accuracy[0.0]


def test_save_load_and_fit_go_on(tmp_path):
    model = build(GREAT(), keras.optimizers.Adam(0.01), run_eagerly=True)
    model.fit(X, Y, batch_size=200, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one in (model, loaded):
        one.fit(X, Y, batch_size=200, shuffle=False, verbose=0)
    for v, w in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(v, w, err_msg=v.path)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: GREAT(strength=-1.0), r"`strength` should be a finite number, at least 0"),
        (lambda: GREAT(units=0), "`units` should be an integer of at least 1"),
        (lambda: GREAT(min_scale=2.0), r"`min_scale` should be a finite number, above 0 and at most 1"),
        (lambda: Sequential(["uncertainty", "great"]), r"should end with .* which requires the gradients of features"),
    ],
)
def test_bad_options_are_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
