import keras
import numpy as np
import pytest

from keras_mtl.layers import DSelectKGate, Gate
from keras_mtl.learned import GumbelGate


def test_gate_dropout_leaves_probabilities():
    gate = Gate(4, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")
    dropped = keras.ops.convert_to_numpy(gate(x, training=True))
    np.testing.assert_allclose(dropped.sum(axis=1), 1, rtol=1e-5)
    assert 0.3 < (dropped == 0).mean() < 0.6
    assert (keras.ops.convert_to_numpy(gate(x)) > 0).all()


def test_temperature_softens_a_gate():
    sharp, soft = Gate(3, temperature=0.1), Gate(3, temperature=10.0)
    x = np.ones((1, 4))
    sharp(x), soft(x)
    soft.set_weights(sharp.get_weights())
    assert float(keras.ops.max(sharp(x))) > float(keras.ops.max(soft(x)))
    np.testing.assert_allclose(soft(x), keras.ops.softmax(keras.ops.matmul(x, sharp.kernel) / 10.0), rtol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("per_example", [False, True])
def test_selectors_with_all_digits_decided_choose_one_expert_each(per_example):
    gate = DSelectKGate(4, k=2, per_example=per_example)
    x = np.zeros((3, 5), "float32")
    gate(x)
    digits, selectors = ("digit_bias", "selector_bias") if per_example else ("digit_logits", "selector_logits")
    getattr(gate, digits).assign([1.0, -1.0, 1.0, 1.0])  # experts 0b10 and 0b11
    getattr(gate, selectors).assign([np.log(3.0), 0.0])
    np.testing.assert_allclose(gate(x), [[0, 0, 0.75, 0.25]] * 3, atol=1e-6)


@pytest.mark.oracle
def test_smooth_step_by_hand():
    gate = DSelectKGate(2, k=1, gamma=2.0)
    gate(np.zeros((1, 1)))
    gate.digit_logits.assign([0.5])
    np.testing.assert_allclose(gate.coefficients(), [1 - 0.84375, 0.84375], rtol=1e-6)


def test_selectors_are_kept_from_numbers_of_no_expert():
    gate = DSelectKGate(3, k=1, entropy_strength=0.0)
    gate(np.zeros((2, 1)), training=True)
    (loss,) = gate.losses
    assert float(loss) > 0
    gate.digit_logits.assign([1.0, -1.0])
    gate(np.zeros((2, 1)), training=True)
    assert float(gate.losses[-1]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("make", [lambda: Gate(1), lambda: GumbelGate(1), lambda: DSelectKGate(1, k=1)])
def test_a_gate_of_one_option_is_1_and_trains(make):
    """Without the warning that Keras has for a softmax over one entry."""
    gate, x = make(), np.ones((2, 3), "float32")
    model = keras.Sequential([keras.Input((3,)), gate, keras.layers.Dense(1)])
    np.testing.assert_array_equal(gate(x, training=True), np.ones((2, 1)))
    before = [v.numpy() for v in gate.trainable_variables]
    model.compile("sgd", loss="mse", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(x, np.ones((2, 1))))
    for start, v in zip(before, gate.trainable_variables, strict=True):
        np.testing.assert_array_equal(v, start)
    np.testing.assert_array_equal(gate.coefficients(np.ones((2, 1))), [1.0])
