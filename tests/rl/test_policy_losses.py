"""Losses of policies, against numbers by hand and against the gradient of the objective that they stand for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import rl


@pytest.mark.oracle
def test_actor_critic_by_hand():
    logits = np.log([[0.5, 0.25, 0.25]])
    y_pred = np.concatenate([logits, [[2.0]]], axis=-1)
    y_true = np.array([[1.0, 3.0, 0.5, np.log(0.5)]])  # action 1, advantage 3, return 0.5, was half as likely again
    entropy = 0.5 * np.log(2) + 0.5 * np.log(4)
    loss = rl.ActorCriticLoss(value_weight=0.5, entropy_weight=0.1)
    assert float(loss(y_true, y_pred)) == pytest.approx(3 * np.log(4) + 0.5 * 1.5**2 - 0.1 * entropy, rel=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("advantage", "before", "gain"),
    [(2.0, 0.2, 1.2 * 2.0), (2.0, 0.5, 0.5 * 2.0), (-2.0, 0.2, -1.25 * 2.0), (-2.0, 0.5, -0.8 * 2.0)],
)
def test_clipping_by_hand(advantage, before, gain):
    """The action has probability 0.25 now: the ratio is 1.25 or 0.5, and c is 0.2."""
    loss = rl.ActorCriticLoss(value_weight=0.0, entropy_weight=0.0, clip=0.2)
    y_pred = np.array([[np.log(0.25), np.log(0.75), 0.0]])
    assert float(loss(np.array([[0.0, advantage, 0.0, np.log(before)]]), y_pred)) == pytest.approx(-gain, rel=1e-5)


def test_without_clip_the_ratio_has_the_same_gradient_at_the_first_pass():
    y_pred = tf.Variable([[0.3, -0.2, 0.1, 0.7]])
    log_prob = tf.nn.log_softmax(y_pred[:, :3]).numpy()[0, 2]
    y_true = np.array([[2.0, 1.7, 0.4, log_prob]], "float32")
    gradients = []
    for clip in (None, 0.2):
        with tf.GradientTape() as tape:
            loss = rl.ActorCriticLoss(clip=clip)(y_true, y_pred)
        gradients.append(tape.gradient(loss, y_pred))
    np.testing.assert_allclose(*gradients, rtol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_distral_is_the_gradient_of_its_objective(alpha):
    """On a bandit, all actions weighted by their probability: minus the gradient of
    `J = sum_a pi(a) (R(a) + alpha/beta log pi_0(a) - 1/beta log pi(a))`, in both columns."""
    beta, rewards = 2.0, np.array([1.0, 0.0, -0.5], "float32")
    own, distilled = tf.Variable([0.2, -0.4, 0.1]), tf.Variable([0.5, 0.0, -0.3])
    with tf.GradientTape() as tape:
        log_policy = tf.nn.log_softmax(alpha * distilled + own)
        log_distilled = tf.nn.log_softmax(distilled)
        regularized = rewards + alpha / beta * log_distilled - log_policy / beta
        objective = tf.reduce_sum(tf.exp(log_policy) * regularized)
    expected = tape.gradient(objective, [own, distilled])

    loss = rl.DistralLoss(alpha, beta, value_weight=0.0, reduction="sum")
    with tf.GradientTape() as tape:
        logits = alpha * distilled + own
        row = tf.concat([logits, [0.0], distilled], axis=0)
        y_pred = tf.tile(row[None], [3, 1])
        advantage = rewards + loss.bonus(y_pred.numpy(), np.arange(3))
        y_true = np.stack([np.arange(3), advantage, np.zeros(3), np.zeros(3)], axis=-1).astype("float32")
        total = loss(y_true, y_pred, sample_weight=tf.stop_gradient(tf.nn.softmax(logits)))
    for found, wanted in zip(tape.gradient(total, [own, distilled]), expected, strict=True):
        np.testing.assert_allclose(-(tf.zeros(3) if found is None else found), wanted, atol=1e-6)


@pytest.mark.oracle
def test_bonus_by_hand():
    row = np.log([[0.2, 0.8, 1.0, 0.6, 0.4]])  # pi, a value, pi_0
    loss = rl.DistralLoss(alpha=0.5, beta=4.0)
    assert loss.bonus(row, np.array([1]))[0] == pytest.approx((0.5 * np.log(0.4) - np.log(0.8)) / 4.0, rel=1e-5)
    assert rl.ActorCriticLoss().bonus(row, np.array([1])).tolist() == [0.0]


def test_what_a_head_means():
    loss, distral = rl.ActorCriticLoss(), rl.DistralLoss()
    for n in (1, 2, 7):
        assert loss.actions(loss.outputs(n)) == distral.actions(distral.outputs(n)) == n
    log_policy, value = distral.read(np.array([[0.0, 0.0, 3.0, 5.0, 5.0]]))
    np.testing.assert_allclose(np.exp(log_policy), [[0.5, 0.5]])
    assert value.tolist() == [3.0]


@pytest.mark.parametrize("loss", [rl.ActorCriticLoss(0.3, 0.2, clip=0.1), rl.DistralLoss(0.3, 7.0, 0.2, clip=0.1)])
def test_config_keeps_the_loss(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()


def test_bad_options_are_told():
    with pytest.raises(ValueError, match=r"`clip` should be above 0, or None. Received: clip=0"):
        rl.ActorCriticLoss(clip=0)
    with pytest.raises(ValueError, match="`beta` should be above 0"):
        rl.DistralLoss(beta=-1)
