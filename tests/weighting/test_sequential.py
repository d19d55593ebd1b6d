"""Weightings one after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import weighting as W

LOSSES = np.array([0.5, 2.0, 4.0], "float32")
ONES = np.ones(3, "float32")


def gramian(seed=0):
    jacobian = np.random.default_rng(seed).standard_normal((3, 8)).astype("float32")
    return jacobian @ jacobian.T


def test_each_stage_sees_the_losses_as_weighed_so_far():
    """GLS of losses that are all 1 gives 1/3 each."""
    weighting = W.Sequential([W.ScaleInvariant(), W.Geometric()])
    assert weighting.requires == "losses"
    np.testing.assert_allclose(weighting(LOSSES), 1 / (3 * LOSSES), rtol=1e-6)
    reverse = W.Sequential([W.Geometric(), W.ScaleInvariant()])
    np.testing.assert_allclose(reverse(LOSSES), 1 / LOSSES, rtol=1e-5)


def test_the_gramian_stage_sees_scaled_gradients():
    weighting = W.Sequential(["scale_invariant", "mgda"])
    assert weighting.requires == "gramian"
    w = 1 / LOSSES
    scaled = gramian() * w[:, None] * w[None, :]
    expected = w * W.MGDA().task_weights(LOSSES * w, ONES, scaled).numpy()
    np.testing.assert_allclose(weighting(LOSSES, gramian=gramian()), expected, rtol=1e-5)


def test_one_stage_is_that_stage():
    weighting, alone = W.Sequential(["mgda"]), W.MGDA()
    np.testing.assert_allclose(weighting(LOSSES, gramian=gramian()), alone(LOSSES, gramian=gramian()), rtol=1e-6)


def learned_gradient(weighting, variable, losses, gramian=None):
    losses, present = tf.constant(losses), tf.constant(ONES)
    with tf.GradientTape() as tape:
        tape.watch(losses)
        weights = weighting.task_weights(losses, present, gramian)
        value = weighting.objective(losses, weights, present)
    return value, *tape.gradient(value, [losses, variable.value]), weights


@pytest.mark.parametrize("last", ["mgda", "geometric"])
def test_a_learned_stage_trains_by_its_own_objective(last):
    weighting, alone = W.Sequential(["uncertainty", last]), W.Uncertainty()
    weighting.build((3,))
    alone.build((3,))
    s = np.array([0.3, -0.2, 1.0], "float32")
    weighting.weightings[0].log_var.assign(s)
    alone.log_var.assign(s)
    given = gramian() if last == "mgda" else None
    value, by_loss, by_s, weights = learned_gradient(weighting, weighting.weightings[0].log_var, LOSSES, given)
    _, _, expected, _ = learned_gradient(alone, alone.log_var, LOSSES)
    np.testing.assert_allclose(by_s, expected, rtol=1e-6)
    np.testing.assert_allclose(by_loss, weights, rtol=1e-6)
    np.testing.assert_allclose(value, np.sum(weights * LOSSES), rtol=1e-6)


def test_a_learned_stage_after_another_learns_from_what_it_sees():
    weighting = W.Sequential(["scale_invariant", "imtl_l"])
    weighting.build((3,))
    _, _, by_s, _ = learned_gradient(weighting, weighting.weightings[1].log_scale, LOSSES)
    np.testing.assert_allclose(by_s, [0.0] * 3, atol=1e-6)  # exp(0) * 1 - 1


def test_random_stages_are_drawn_once_a_step():
    weighting = W.Sequential([W.RandomWeighting(seed=0), W.FAMO(form="next_batch")])
    weighting.build((3,))
    weights = weighting.task_weights(LOSSES, ONES)
    drawn = weighting.latest.numpy()[0]
    weighting.objective(LOSSES, weights, ONES)
    weighting.update(LOSSES, ONES, weights)
    np.testing.assert_allclose(weighting.weightings[1].last_log, np.log(LOSSES * drawn), rtol=1e-5)


def test_updates_reach_every_stage():
    """FAMO behind a constant rescaling takes the step it takes alone: only ratios count."""
    weighting, alone = W.Sequential(["scale_invariant", "famo"]), W.FAMO()
    weighting.build((3,))
    alone.build((3,))
    assert weighting.second_forward
    after = LOSSES * np.array([0.9, 0.5, 1.1], "float32")
    for famo in (weighting, alone):
        weights = famo.task_weights(LOSSES, ONES)
        famo.update(LOSSES, ONES, weights)
        famo.after_step(LOSSES, after, ONES)
    np.testing.assert_allclose(weighting.weightings[1].logits, alone.logits, rtol=1e-4)


def test_epochs_reach_every_stage():
    weighting = W.Sequential([W.DWA(), W.STCH(warmup_epochs=0), W.DTP()])
    weighting.set_tasks(["a", "b", "c"], ["classification"] * 3)
    weighting.build((3,))
    weights = weighting.task_weights(LOSSES, ONES)
    weighting.update(LOSSES, ONES, weights)
    weighting.end_epoch({"a_accuracy": 0.5, "b_accuracy": 0.5, "c_accuracy": 0.5})
    np.testing.assert_allclose(weighting.weightings[0].last, LOSSES)
    np.testing.assert_allclose(weighting.weightings[1].nadir, LOSSES)
    np.testing.assert_allclose(weighting.weightings[2].average, [0.5] * 3)
    weighting.reset_state()
    assert all(np.all(v.numpy() == i) for s in weighting.weightings for v, i in s._initial_state)


def test_absent_tasks_weigh_nothing():
    weighting = W.Sequential(["uncertainty", "mgda"])
    present = np.array([1, 0, 1], "float32")
    given = gramian() * present[:, None] * present[None, :]
    weights = np.array(weighting(LOSSES * present, present=present, gramian=given))
    assert weights[1] == 0 and weights[0] > 0


def test_config_nests():
    inner = W.Sequential([W.DWA(temperature=3.0), W.Uncertainty(kinds="laplace")])
    weighting = W.Sequential([inner, W.MGDA(reduction="sum", every=2)], name="both")
    assert weighting.every == 2
    weighting.build((3,))
    again = W.deserialize(W.serialize(weighting))
    assert again.get_config() == weighting.get_config()
    assert again.name == "both" and again.weightings[0].weightings[0].temperature == 3.0
    again.set_weights(weighting.get_weights())
    np.testing.assert_allclose(again(LOSSES, gramian=gramian()), weighting(LOSSES, gramian=gramian()), rtol=1e-6)


def test_compiled_equals_eager_and_is_traced_once():
    eager, compiled = (W.Sequential(["geometric", "uncertainty", "mgda"]) for _ in range(2))
    traces = []

    def step(weighting, losses, gramian):
        weights = weighting.task_weights(losses, ONES, gramian)
        weighting.update(losses, ONES, weights, gramian)
        return weights

    @tf.function(jit_compile=True, autograph=False)
    def fast(losses, gramian):
        traces.append(1)
        return step(compiled, losses, gramian)

    for weighting in (eager, compiled):
        weighting.build((3,))
    for seed in range(3):
        inputs = tf.constant(LOSSES + seed), tf.constant(gramian(seed))
        np.testing.assert_allclose(step(eager, *inputs), fast(*inputs), rtol=1e-4)
    assert len(traces) == 1


def test_learned_stage_is_found_among_the_trainable_variables():
    weighting = W.Sequential(["uncertainty", "mgda"])
    weighting.build((3,))
    assert [v.name for v in weighting.trainable_variables] == ["log_var"]
    keras.optimizers.Adam(0.1).apply([np.ones(3, "float32")], weighting.trainable_variables)
    np.testing.assert_allclose(weighting.weightings[0].log_var, [-0.1] * 3, rtol=1e-4)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "`weightings` should be a list of at least one"),
        ("uncertainty", "`weightings` should be a list of at least one"),
        (["mgda", "uncertainty"], "but for the last.*MGDA"),
        (["mgda", "mgda"], "but for the last"),
        (["graddrop", "uncertainty"], "but for the last.*GradDrop"),
        (["famo", "mgda"], "second forward pass"),
        (["uncertainty", "graddrop"], "requires the Jacobian"),
    ],
)
def test_wrong_orders_are_named(stages, message):
    with pytest.raises(ValueError, match=message):
        W.Sequential(stages)


def test_a_composition_may_end_with_one():
    inside = W.Sequential(["scale_invariant", W.MGDA(every=2)])
    outside = W.Sequential(["uncertainty", inside])
    assert (outside.requires, outside.every, outside.sees_gradients) == ("gramian", 2, True)
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((3,)), [keras.layers.Dense(2)], {task: keras.layers.Dense(1) for task in "ab"}
    )
    model.compile("sgd", "mse", weighting=outside, run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    logs = model.fit(x, {"a": x[:, :1], "b": x[:, 1:2]}, batch_size=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
