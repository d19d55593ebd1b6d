"""Gates that draw: frequencies, temperature, warm-up and what policies add to the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl.learned import GumbelGate, PolicyStage

ONE = np.ones((1, 1), "float32")


def gate(logits, **options):
    made = GumbelGate(len(logits), seed=1, **options)
    made(ONE)
    made.logits.assign(logits)
    return made


def draws(made, count=4000):
    @tf.function
    def run():
        return tf.map_fn(lambda _: made(ONE, training=True)[0], tf.range(count), fn_output_signature="float32")

    return run().numpy()


def test_frequencies_are_those_of_the_softmax():
    logits = np.array([0.0, 1.0, 2.0], "float32")
    found = draws(gate(logits, hard=True, temperature=0.5))
    assert set(np.unique(found.round(6))) == {0.0, 1.0}
    chances = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(found.mean(0) - chances).max() < 3 * np.sqrt(0.25 / len(found))


def test_soft_draws_become_one_hot_as_the_temperature_falls():
    made = gate([0.0, 1.0], temperature=100.0, decay=0.99, min_temperature=0.01)
    largest = draws(made, 2000).max(axis=1)
    assert largest[:20].mean() < 0.52 and largest[-200:].mean() > 0.98
    assert int(made.steps) == 2000


@pytest.mark.parametrize(("warmup", "expected"), [("first", [1, 0, 0, 0]), ("mean", [0.25] * 4)])
def test_there_is_no_choice_in_the_warm_up(warmup, expected):
    made = gate([0.0, 0.0, 0.0, 5.0], hard=True, warmup_steps=2, warmup=warmup)
    for _ in range(2):
        with tf.GradientTape() as tape:
            drawn = made(ONE, training=True)
            value = tf.reduce_sum(drawn * [[1.0, 2.0, 3.0, 4.0]])
        np.testing.assert_allclose(drawn[0], expected)
        np.testing.assert_array_equal(tape.gradient(value, made.logits.value), np.zeros(4))
    np.testing.assert_array_equal(made(ONE)[0], [0, 0, 0, 1])
    assert int(made.steps) == 2  # what does not train does not count


def policies(form, blocks=4, block=1, warmup_steps=0):
    names = ["a_policy", "b_policy", "c_policy"]
    stages = {}
    for name, select in zip(names, (0.0, 1.0, -1.0), strict=True):
        made = gate([select, 0.5], warmup_steps=warmup_steps)
        stages[name] = PolicyStage(
            [made], f"{name[0]}/policy", names, block, blocks, sparsity=0.3, sharing=0.7, form=form, name=name
        )
    return stages


def test_terms_of_the_paper_by_hand():
    stages = policies("paper")
    p = np.exp([0.0, 1.0, -1.0]) / (np.exp([0.0, 1.0, -1.0]) + np.exp(0.5))
    pairs = abs(p[0] - p[1]) + abs(p[0] - p[2]) + abs(p[1] - p[2])
    expected = 0.3 * np.log(p).sum() + 0.7 * 3 / 4 * pairs
    assert float(stages["a_policy"].joint_loss(stages)) == pytest.approx(expected, rel=1e-5)
    assert stages["b_policy"].joint_loss(stages) is None


def test_terms_of_the_code_by_hand():
    stages = policies("code")
    skip = np.exp(0.5) / (np.exp([0.0, 1.0, -1.0]) + np.exp(0.5))
    expected = 0.3 * -np.log(skip).sum() / 4 + 0.7 * 1 / 4 * (1 + 1 + 2)
    assert float(stages["a_policy"].joint_loss(stages)) == pytest.approx(expected, rel=1e-5)


def test_equal_policies_share_at_no_cost_and_warm_ups_add_nothing():
    stages = policies("paper")
    for stage in stages.values():
        stage.mixer.logits.assign([0.0, 0.0])
    assert float(stages["a_policy"].joint_loss(stages)) == pytest.approx(0.3 * 3 * np.log(0.5), rel=1e-5)
    waiting = policies("paper", warmup_steps=1)
    assert float(waiting["a_policy"].joint_loss(waiting)) == 0.0


def test_config_and_errors():
    made = GumbelGate(3, hard=True, warmup_steps=2, warmup="first", seed=3)
    assert GumbelGate.from_config(made.get_config()).get_config() == made.get_config()
    assert made(keras.KerasTensor((None, 5))).shape == (None, 3)
    assert ops.shape(made(np.ones((4, 2)))) == (4, 3)
    with pytest.raises(ValueError, match="`temperature`"):
        GumbelGate(2, temperature=0.0)
    with pytest.raises(ValueError, match="`warmup_steps`"):
        GumbelGate(2, warmup_steps=-1)
    with pytest.raises(ValueError, match="`warmup`"):
        GumbelGate(2, warmup="last")
    with pytest.raises(ValueError, match="`form`"):
        policies("other")
