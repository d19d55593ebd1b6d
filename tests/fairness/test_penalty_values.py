"""Penalties, their gradients, multipliers and the adversary, worked out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.fairness import Adversary, CovariancePenalty, MMDPenalty, ParityPenalty
from keras_mtl.losses.labels import Labels
from tests.fairness.by_hand import BY_HAND, RNG, SEX, X, Y, build, fit, parity_by_hand, sigmoid, variables

PENALTIES = pytest.mark.parametrize("kind", list(BY_HAND))


@pytest.mark.oracle
@PENALTIES
@pytest.mark.parametrize("among", [None, "positives", "negatives"])
@pytest.mark.parametrize("count", [2, 3])
def test_values_by_hand_with_missing_labels_and_unknown_groups(kind, among, count):
    size = 90
    y, p = RNG.integers(0, 2, size), RNG.random(size)
    groups = np.where(np.arange(size) % 7 == 0, np.nan, RNG.integers(0, count, size))
    mask = np.arange(size) % 5 != 0
    labels = Labels(y[:, None], p[:, None].astype("float32"), None, mask.astype("float32"), False)
    value, known = kind("sex", among=among, groups=count).measure(labels, groups)
    kept = mask & (groups >= 0)
    if among is not None:
        kept &= y == (among == "positives")
    assert float(value) == pytest.approx(BY_HAND[kind](p[kept], groups[kept]), rel=1e-4, abs=1e-6)
    assert float(known) == 1


@pytest.mark.oracle
def test_values_of_one_class_from_logits():
    logits, classes, groups = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50), np.arange(50) % 2
    labels = Labels(classes, logits.astype("float32"), None, None, False)
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, 1]
    penalty = ParityPenalty("sex", among="positives", from_logits=True, class_id=1)
    expected = parity_by_hand(p[classes == 1], groups[classes == 1])
    assert float(penalty.measure(labels, groups)[0]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ParityPenalty, {}),
        (CovariancePenalty, {}),
        (MMDPenalty, {}),
        (ParityPenalty, {"weighting": "uncertainty"}),
        (ParityPenalty, {"weighting": "mgda"}),
        (ParityPenalty, {"weighting": "mgda", "gradients": "features"}),
        (ParityPenalty, {"weighting": "graddrop"}),
    ],
)
def test_a_step_adds_the_penalty_s_gradient_whatever_the_weighting(kind, options):
    """What a penalty changes of one SGD step is its gradient, by central differences in NumPy."""
    without, with_penalty = build(**options), build(penalties={"hired": kind("sex", strength=3.0)}, **options)
    before = variables(with_penalty)
    fit(without, {k: v for k, v in Y.items() if k != "sex"})
    fit(with_penalty)

    def penalty(values):
        features = X.astype("float64") @ values["shared/fc/kernel"]
        return 3.0 * BY_HAND[kind](sigmoid(features @ values["hired/out/kernel"])[:, 0], SEX)

    after = variables(with_penalty)
    np.testing.assert_allclose(after["paid/out/kernel"], variables(without)["paid/out/kernel"], rtol=1e-6)
    for path in ("shared/fc/kernel", "hired/out/kernel"):
        plain = variables(without)[path]
        gradient = np.zeros(plain.shape)
        for index in np.ndindex(plain.shape):
            sides = []
            for step in (1e-4, -1e-4):
                values = {k: v.astype("float64") for k, v in before.items()}
                values[path][index] += step
                sides.append(penalty(values))
            gradient[index] = (sides[0] - sides[1]) / 2e-4
        np.testing.assert_allclose(after[path] - plain, -0.5 * gradient, rtol=2e-3, atol=2e-6)


@pytest.mark.oracle
def test_multiplier_by_hand():
    penalty = ParityPenalty("sex", strength=0.2, bound=0.01, multiplier_rate=0.5)
    model = build(penalties={"hired": penalty})
    multiplier, used = 0.2, []
    for _ in range(4):
        p = np.array(model(X)["hired"], "float64")[:, 0]
        used.append(multiplier)
        multiplier = max(0.0, multiplier + 0.5 * (parity_by_hand(p, SEX) - 0.01))
        logs = fit(model)
        assert logs["hired_parity"] == pytest.approx(parity_by_hand(p, SEX), rel=1e-4)
        assert logs["hired_parity_multiplier"] == pytest.approx(multiplier, rel=1e-4)
    assert max(used) > 0.2  # it was pushed up, and it moves the model:
    plain = build()
    fit(plain, {k: v for k, v in Y.items() if k != "sex"}, epochs=4)
    assert not np.allclose(plain.get_weights()[1], model.get_weights()[1])


def test_multiplier_stays_between_0_and_its_largest_value():
    low = ParityPenalty("sex", bound=0.9, multiplier_rate=10.0)
    high = ParityPenalty("sex", bound=0.0, multiplier_rate=1e3, max_multiplier=2.0, name="high")
    model = build(penalties={"hired": [low, high]}, optimizer=keras.optimizers.SGD(0.0))
    fit(model)
    assert float(low.multiplier) == 0.0 and float(high.multiplier) == 2.0


@pytest.mark.oracle
@pytest.mark.parametrize("sees_label", [False, True])
def test_one_step_of_the_adversary_and_of_its_opponent(sees_label):
    adversary = Adversary("sex", strength=0.7, sees_label=sees_label, units=5)
    model, plain = build(penalties={"hired": adversary}), build()
    guesser = [w.numpy() for w in adversary.trainable_variables]
    before = variables(plain)
    fit(plain, {k: v for k, v in Y.items() if k != "sex"})

    # The adversary's loss, written again on its own.
    kernel = tf.Variable(before["hired/out/kernel"])
    fc = tf.Variable(before["shared/fc/kernel"])
    w1, b1, w2, b2 = (tf.Variable(w) for w in guesser)
    with tf.GradientTape() as tape:
        logit = tf.matmul(tf.matmul(X, fc), kernel)
        label = tf.constant(Y["hired"][:, None], tf.float32)
        seen = tf.concat([logit, label, logit * label], 1) if sees_label else logit
        guesses = tf.matmul(tf.nn.relu(tf.matmul(seen, w1) + b1), w2) + b2
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(SEX, guesses))
    of_adversary, of_model = [w1, b1, w2, b2], {"hired/out/kernel": kernel, "shared/fc/kernel": fc}
    gradients = tape.gradient(loss, [*of_adversary, *of_model.values()])
    assert fit(model)["hired_adversary"] == pytest.approx(float(loss), rel=1e-5)
    for old, new, gradient in zip(guesser, adversary.trainable_variables, gradients[:4], strict=True):
        np.testing.assert_allclose(new, old - 0.5 * gradient.numpy(), rtol=1e-4, atol=1e-6)
    for path, gradient in zip(of_model, gradients[4:], strict=True):
        expected = variables(plain)[path] + 0.7 * 0.5 * gradient.numpy()
        np.testing.assert_allclose(variables(model)[path], expected, rtol=1e-4, atol=1e-6)
