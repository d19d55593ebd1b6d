"""Targets and losses of distillation, worked out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.distillation import distill, soft_targets
from tests.distillation.by_hand import (
    KIND,
    LOSS,
    PRICE,
    RNG,
    SOLD,
    WIDTHS,
    C,
    N,
    X,
    Y,
    assert_logs,
    build,
    distiller,
    fit,
    losses_by_hand,
    outputs_of,
    said_by,
    sigmoid,
    softmax,
    teachers,
)
from tests.rows import by_default


@pytest.mark.oracle
def test_targets_of_teacher_annealing_at_progress_0_a_quarter_and_1():
    """Four steps: the labels' part is 0, 1/4, 1/2 and 3/4, and 1 once they are done.

    The loss of the classes is the crossentropy with the very target of BAM,
    `progress * onehot + (1 - progress) * softmax(teacher)`.
    """
    given, student = teachers(), build()
    model = distiller(student=student, given=given, compiled={"run_eagerly": False})
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append({name: float(value) for name, value in logs.items()})

    model.fit(
        np.tile(X, (4, 1)),
        {t: np.tile(y, 4) for t, y in Y.items()},
        batch_size=N,
        shuffle=False,
        verbose=0,
        callbacks=[Look()],
    )
    said, out = said_by(given), outputs_of(student)
    # Logs are means over the epoch so far.
    for task in WIDTHS:
        means = np.array([logs[f"{task}_loss"] for logs in seen])
        each = np.diff(np.concatenate([[0.0], means * np.arange(1, 5)]))
        expected = [losses_by_hand(student, said, gold)[f"{task}_loss"] for gold in (0.0, 0.25, 0.5, 0.75)]
        np.testing.assert_allclose(each, expected, rtol=2e-4)
    assert float(model.progress) == 1.0
    logs = model.train_on_batch(X, Y, return_dict=True)
    assert_logs(logs, losses_by_hand(student, said, 1.0))
    for gold in (0.0, 0.25, 1.0):
        target = gold * np.eye(C)[KIND] + (1 - gold) * softmax(said["kind"][0])
        crossentropy = -(target * np.log(softmax(out["kind"]))).sum(-1).mean()
        assert losses_by_hand(student, said, gold)["kind_loss"] == pytest.approx(crossentropy)


@pytest.mark.oracle
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_ensembles_soft_and_hard_targets_with_gaps_in_the_labels(temperature):
    student = build()
    given = {
        "kind": [build(["kind"], 1), build(["kind"], 2)],
        "sold": [build(["sold"], 3)],
        "price": [build(["price"], s) for s in (4, 5, 6)],
    }
    missing = {"kind": -1, "sold": -1, "price": "nan"}
    model = distiller(
        student=student, given=given, temperature=temperature, annealing=0.3, compiled={"missing": missing}
    )
    labelled = {"kind": np.arange(N) % 2 == 0, "sold": np.arange(N) > 4, "price": np.arange(N) % 3 == 0}
    y = {task: np.where(labelled[task], Y[task], -1 if task != "price" else np.nan) for task in WIDTHS}
    assert_logs(fit(model, X, y), losses_by_hand(student, said_by(given), 0.3, temperature, labelled))


@pytest.mark.oracle
@pytest.mark.parametrize("annealing", by_default(["linear"], [0.0, "linear"]))
def test_a_pool_without_labels(annealing):
    """Where there are no labels, teachers count alone, whatever the annealing."""
    student, given = build(), teachers()
    model = distiller(student=student, given=given, annealing=annealing)
    assert_logs(fit(model, X, epochs=2), losses_by_hand(student, said_by(given), 0.0))
    assert_logs(
        fit(model, tf.data.Dataset.from_tensor_slices(X).batch(N)), losses_by_hand(student, said_by(given), 0.0)
    )
    without_kind = {task: Y[task] for task in ("sold", "price")}
    everything = {task: np.ones(N, bool) for task in WIDTHS}
    labelled = {**everything, "kind": np.zeros(N, bool)}
    model = distiller(student=student, given=given, annealing=0.6)
    assert_logs(fit(model, X, without_kind), losses_by_hand(student, said_by(given), 0.6, labelled=labelled))


@pytest.mark.oracle
def test_a_step_has_the_gradient_of_the_mixed_loss():
    student, given = build(), teachers()
    twin = build()
    fit(distiller(keras.optimizers.SGD(0.1), student, given, temperature=2.0, annealing=0.4), X, Y)
    said = {task: said_by(given)[task][0] for task in WIDTHS}
    with tf.GradientTape() as tape:
        out = twin(X)
        q = tf.constant(softmax(said["kind"] / 2), tf.float32)
        kind = 0.4 * tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(KIND, out["kind"]))
        kind += 0.6 * 4 * tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(q, out["kind"] / 2))
        q = tf.constant(sigmoid(said["sold"] / 2), tf.float32)
        sold = 0.4 * tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(SOLD[:, None], out["sold"]))
        sold += 0.6 * 4 * tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(q, out["sold"] / 2))
        price = tf.reduce_mean((out["price"] - (0.4 * PRICE[:, None] + 0.6 * said["price"])) ** 2)
        total = kind + sold + price
    gradients = tape.gradient(total, [v.value for v in twin.trainable_variables])
    for new, old, gradient in zip(student.trainable_variables, twin.trainable_variables, gradients, strict=True):
        np.testing.assert_allclose(new, old.numpy() - 0.1 * gradient.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.oracle
def test_probabilities_and_logits_of_teachers_come_to_the_same():
    logits = build(["kind"], 1)
    probabilities = build(["kind"], 1, kind="softmax")
    probabilities.set_weights(logits.get_weights())
    first, second = (
        fit(distiller(given={"kind": t}, annealing=0.0, temperature=2.0), X, Y) for t in (logits, probabilities)
    )
    assert first["kind_loss"] == pytest.approx(second["kind_loss"], rel=1e-4)
    # A student that says probabilities.
    student = build(seed=0, kind="softmax", sold="sigmoid")
    loss = {"kind": "sparse_categorical_crossentropy", "sold": "binary_crossentropy", "price": "mse"}
    third = fit(
        distiller(student=student, given={"kind": logits}, annealing=0.0, temperature=2.0, compiled={"loss": loss}),
        X,
        Y,
    )
    assert third["kind_loss"] == pytest.approx(first["kind_loss"], rel=1e-4)
    # The caller knows better than the last activation.
    wrong = fit(distiller(given={"kind": logits}, annealing=0.0, from_logits=False), X, Y)
    assert wrong["kind_loss"] != pytest.approx(first["kind_loss"], rel=1e-2)


def test_soft_targets_of_one_class_are_1():
    """Without the warning that Keras has for a softmax over one entry."""
    np.testing.assert_array_equal(soft_targets([np.array([[3.0], [-2.0]])], "categorical", 2.0, True), [[1.0], [1.0]])


@pytest.mark.oracle
def test_soft_targets_by_hand():
    z = RNG.normal(size=(2, 5, 3))
    expected = (softmax(z[0] / 2) + softmax(z[1] / 2)) / 2
    np.testing.assert_allclose(soft_targets(list(z), "categorical", 2.0, from_logits=True), expected, rtol=1e-5)
    np.testing.assert_allclose(
        soft_targets([softmax(z[0]), z[1]], "categorical", 2.0, [False, True]), expected, rtol=1e-4
    )
    np.testing.assert_allclose(soft_targets(list(z), "binary", from_logits=True), sigmoid(z).mean(0), rtol=1e-5)
    np.testing.assert_allclose(soft_targets(list(z), "regression"), z.mean(0), rtol=1e-5)


@pytest.mark.oracle
def test_binary_labels_of_a_block_with_missing_entries():
    def block(seed):
        keras.utils.set_random_seed(seed)
        return keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(5)], {"tags": layers.Dense(3)})

    student, teacher = block(0), block(1)
    tags = RNG.integers(0, 2, (N, 3)).astype("float32")
    known = RNG.random((N, 3)) > 0.4
    model = distill(student, {"tags": teacher}, annealing=0.3)
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
        missing={"tags": "nan"},
        run_eagerly=True,
    )
    logs = fit(model, X, {"tags": np.where(known, tags, np.nan)})
    p, q = (sigmoid(np.array(m(X)["tags"], "float64")) for m in (student, teacher))
    hard, soft = (-t * np.log(p) - (1 - t) * np.log(1 - p) for t in (tags, q))
    assert logs["tags_loss"] == pytest.approx(np.where(known, 0.3 * hard + 0.7 * soft, soft).mean(), rel=1e-4)


def test_weights_of_examples_are_those_of_their_labels():
    student, given = build(["kind"]), {"kind": build(["kind"], 1)}
    model = distill(student, given, annealing=0.5)
    model.compile(keras.optimizers.SGD(0.0), LOSS["kind"], run_eagerly=True)
    weights = RNG.random(N).astype("float32")
    weights[:3] = 0.0  # no label
    logs = fit(model, X, {"kind": KIND}, sample_weight={"kind": weights})
    z = outputs_of(student)["kind"]
    hard = -np.log(softmax(z)[np.arange(N), KIND])
    soft = -(softmax(said_by(given)["kind"][0]) * np.log(softmax(z))).sum(-1)
    assert logs["kind_loss"] == pytest.approx(
        np.mean(0.5 * weights * hard + np.where(weights > 0, 0.5, 1.0) * soft), rel=1e-4
    )
