"""Distillation: targets worked out in NumPy, pools without labels, ensembles, hints, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.distillation import distill, soft_targets

RNG = np.random.default_rng(0)
N, C = 12, 3
X = RNG.normal(size=(N, 4)).astype("float32")
KIND = RNG.integers(0, C, N)
SOLD = RNG.integers(0, 2, N).astype("float32")
PRICE = RNG.normal(size=N).astype("float32")
Y = {"kind": KIND, "sold": SOLD, "price": PRICE}
WIDTHS = {"kind": C, "sold": 1, "price": 1}
LOSS = {
    "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "sold": keras.losses.BinaryCrossentropy(from_logits=True),
    "price": "mse",
}


def build(tasks=tuple(WIDTHS), seed=0, hidden=6, **activations):
    keras.utils.set_random_seed(seed)
    return keras_mtl.hard_sharing(
        keras.Input((4,)),
        [layers.Dense(hidden, activation="tanh", name="fc")],
        {task: layers.Dense(WIDTHS[task], activation=activations.get(task), name="out") for task in tasks},
    )


def teachers():
    return {task: build([task], seed=seed) for seed, task in enumerate(WIDTHS, start=1)}


def distiller(optimizer=None, student=None, given=None, compiled=None, **options):
    model = distill(student or build(), given or teachers(), **options)
    model.compile(**{"optimizer": optimizer or keras.optimizers.SGD(0.0), "loss": LOSS, **(compiled or {})})
    return model


def fit(model, *data, **options):
    history = model.fit(*data, **{"batch_size": N, "shuffle": False, "verbose": 0, **options}).history
    return {name: values[-1] for name, values in history.items()}


def outputs_of(model):
    return {task: output.astype("float64") for task, output in model.predict(X, verbose=0).items()}


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def losses_by_hand(student, taught, gold, temperature=1.0, labelled=None):
    """The three losses, with the teachers' outputs in a dict from task to a list."""
    labelled = labelled or {task: np.ones(N, bool) for task in WIDTHS}
    out = outputs_of(student)

    def mean(task, hard, soft):
        return np.mean(np.where(labelled[task], gold * hard + (1 - gold) * soft, soft))

    q = np.mean([softmax(z / temperature) for z in taught["kind"]], axis=0)
    soft = -(temperature**2) * (q * np.log(softmax(out["kind"] / temperature))).sum(-1)
    kind = mean("kind", -np.log(softmax(out["kind"])[np.arange(N), KIND]), soft)

    q = np.mean([sigmoid(z[:, 0] / temperature) for z in taught["sold"]], axis=0)
    p, soft_p = sigmoid(out["sold"][:, 0]), sigmoid(out["sold"][:, 0] / temperature)
    soft = -(temperature**2) * (q * np.log(soft_p) + (1 - q) * np.log(1 - soft_p))
    sold = mean("sold", -SOLD * np.log(p) - (1 - SOLD) * np.log(1 - p), soft)

    said = np.mean([z[:, 0] for z in taught["price"]], axis=0)
    target = np.where(labelled["price"], gold * PRICE + (1 - gold) * said, said)
    return {"kind_loss": kind, "sold_loss": sold, "price_loss": np.mean((out["price"][:, 0] - target) ** 2)}


def said_by(given):
    return {
        task: [outputs_of(model)[task] for model in (models if isinstance(models, list) else [models])]
        for task, models in given.items()
    }


def assert_logs(logs, expected):
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.oracle
def test_targets_of_teacher_annealing_at_progress_0_a_quarter_and_1():
    """Four steps: the labels' part is 0, 1/4, 1/2 and 3/4, and 1 once they are done.

    The loss of the classes is the crossentropy with the very target of BAM,
    `progress * onehot + (1 - progress) * softmax(teacher)`.
    """
    given, student = teachers(), build()
    model = distiller(student=student, given=given)
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
@pytest.mark.parametrize("annealing", [0.0, "linear"])
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
    model.compile(keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy(from_logits=True), missing={"tags": "nan"})
    logs = fit(model, X, {"tags": np.where(known, tags, np.nan)})
    p, q = (sigmoid(m.predict(X, verbose=0)["tags"].astype("float64")) for m in (student, teacher))
    hard, soft = (-t * np.log(p) - (1 - t) * np.log(1 - p) for t in (tags, q))
    assert logs["tags_loss"] == pytest.approx(np.where(known, 0.3 * hard + 0.7 * soft, soft).mean(), rel=1e-4)


def test_weights_of_examples_are_those_of_their_labels():
    student, given = build(["kind"]), {"kind": build(["kind"], 1)}
    model = distill(student, given, annealing=0.5)
    model.compile(keras.optimizers.SGD(0.0), LOSS["kind"])
    weights = RNG.random(N).astype("float32")
    weights[:3] = 0.0  # no label
    logs = fit(model, X, {"kind": KIND}, sample_weight={"kind": weights})
    z = outputs_of(student)["kind"]
    hard = -np.log(softmax(z)[np.arange(N), KIND])
    soft = -(softmax(said_by(given)["kind"][0]) * np.log(softmax(z))).sum(-1)
    assert logs["kind_loss"] == pytest.approx(
        np.mean(0.5 * weights * hard + np.where(weights > 0, 0.5, 1.0) * soft), rel=1e-4
    )


def test_one_model_teaches_several_tasks_and_others_learn_from_labels():
    student, teacher = build(), build(["kind", "sold"], 3)
    model = distiller(student=student, given=teacher, annealing=0.2)
    said = said_by({"kind": teacher, "sold": teacher})
    expected = losses_by_hand(student, {**said, "price": [PRICE[:, None]]}, 0.2)
    assert_logs(fit(model, X, Y), expected)


def test_evaluation_counts_labels_alone_and_metrics_too():
    student = build()
    model = distiller(student=student, annealing=0.0, compiled={"metrics": {"kind": ["accuracy"]}})
    student.compile("sgd", LOSS, metrics={"kind": ["accuracy"]})
    plain = student.evaluate(X, Y, return_dict=True, verbose=0)
    assert model.evaluate(X, Y, return_dict=True, verbose=0) == pytest.approx(plain, rel=1e-5)
    logs = fit(model, X, Y, validation_data=(X, Y))
    assert logs["val_kind_loss"] == pytest.approx(plain["kind_loss"], rel=1e-5) != logs["kind_loss"]
    assert logs["kind_accuracy"] == pytest.approx(plain["kind_accuracy"])


@pytest.mark.parametrize("options", [{"weighting": "uncertainty"}, {"weighting": "mgda", "gradients": "features"}])
def test_teachers_stay_and_students_learn_under_any_weighting(options):
    student, given = build(hidden=8), teachers()
    before = [w.copy() for teacher in given.values() for w in teacher.get_weights()]
    model = distiller(keras.optimizers.Adam(0.05), student, given, annealing=0.0, compiled=options)
    assert not {id(v) for t in given.values() for v in t.variables} & {id(v) for v in model.variables}

    def apart():
        said = said_by(given)
        return np.mean(
            [
                np.sum(
                    softmax(said["kind"][0])
                    * (np.log(softmax(said["kind"][0])) - np.log(softmax(outputs_of(student)["kind"])))
                ),
                np.sum((said["price"][0] - outputs_of(student)["price"]) ** 2),
            ]
        )

    first = apart()
    fit(model, X, epochs=30)
    assert apart() < 0.2 * first
    for old, new in zip(before, (w for t in given.values() for w in t.get_weights()), strict=True):
        np.testing.assert_array_equal(old, new)


def test_hints_are_tasks_of_the_training_model_alone():
    student, teacher = build(hidden=5), build(["kind"], 1, hidden=7)
    student_layer, teacher_layer = student.layers[1].name, teacher.layers[1].name
    model = distill(student, {"kind": teacher}, annealing=0.5, hints={"hint": (student_layer, teacher, teacher_layer)})
    model.compile(keras.optimizers.SGD(0.0), LOSS, loss_weights={"hint": 0.1})
    logs = fit(model, X, Y, validation_data=(X, Y))
    features, taught = (
        keras.Model(m.input, m.get_layer(name).output).predict(X, verbose=0)
        for m, name in ((student, student_layer), (teacher, teacher_layer))
    )
    (projection,) = model.task_variables("hint")
    expected = np.mean((features @ projection.numpy() - taught) ** 2)
    assert logs["hint_loss"] == pytest.approx(expected, rel=1e-4) == logs["val_hint_loss"]
    assert student.tasks == tuple(WIDTHS) and model.tasks == (*WIDTHS, "hint")
    model.compile(keras.optimizers.Adam(0.05), LOSS)
    assert fit(model, X, Y, epochs=25)["hint_loss"] < 0.5 * expected
    same = distill(
        student,
        {"kind": build(["kind"], 1, hidden=5)},
        hints={"hint": (student_layer, build(["kind"], 2, hidden=5), "shared_fc")},
    )
    assert same.task_variables("hint") == []  # of one width: compared as they are


def test_teachers_may_take_some_of_a_dict_of_inputs():
    def inputs(*names):
        return {name: keras.Input((4,), name=name) for name in names}

    both = inputs("a", "b")
    joined = inputs("a", "b")
    join = keras.Model(joined, layers.Concatenate()(list(joined.values())))
    student = keras_mtl.hard_sharing(both, [join, layers.Dense(3)], {"kind": layers.Dense(C)})
    one = inputs("a")
    teacher = keras.Model(one, layers.Dense(C)(one["a"]))
    model = distill(student, {"kind": teacher}, annealing=0.0)
    model.compile(keras.optimizers.SGD(0.0), LOSS["kind"])
    logs = fit(model, {"a": X, "b": 2 * X})
    z, t = student.predict({"a": X, "b": 2 * X}, verbose=0)["kind"], teacher.predict({"a": X}, verbose=0)
    assert logs["kind_loss"] == pytest.approx(-(softmax(t) * np.log(softmax(z))).sum(-1).mean(), rel=1e-4)


def test_steps_per_execution_and_going_on_after_a_kill(tmp_path):
    def run(epochs, callbacks=(), **options):
        student = build()
        model = distiller(keras.optimizers.Adam(0.02), student, steps=16, compiled=options)
        logs = fit(model, X, Y, batch_size=3, epochs=epochs, callbacks=list(callbacks))
        return model, student, logs

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    _, student, logs = run(4)
    _, same, same_logs = run(4, steps_per_execution=4)
    with pytest.raises(KeyboardInterrupt):
        run(4, [keras.callbacks.BackupAndRestore(tmp_path), Kill()])
    again, resumed, resumed_logs = run(4, [keras.callbacks.BackupAndRestore(tmp_path)])
    assert float(again.progress) == 1.0
    assert same_logs == pytest.approx(logs, rel=1e-4) and resumed_logs == pytest.approx(logs, rel=1e-4)
    for other in (same, resumed):
        for v, w in zip(student.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(v, w, rtol=1e-4, atol=1e-6)


def test_annealing_by_a_function():
    student, given = build(), teachers()
    model = distiller(student=student, given=given, annealing=lambda progress: 0.5 + 0.5 * progress**2, steps=2)
    fit(model, X, Y)
    assert_logs(fit(model, X, Y), losses_by_hand(student, said_by(given), 0.5 + 0.5 * 0.25))


def test_steps_have_to_be_known():
    data = tf.data.Dataset.from_generator(
        lambda: iter([(X, Y)]),
        output_signature=(tf.TensorSpec(X.shape), {t: tf.TensorSpec(np.shape(y), y.dtype) for t, y in Y.items()}),
    )
    with pytest.raises(ValueError, match=r"`steps`, the total number of training steps, should be given to `distill`"):
        distiller().fit(data, verbose=0)
    distiller(annealing=0.5).fit(data.repeat(), steps_per_epoch=1, verbose=0)
    model = distiller(steps=10)
    model.fit(data.repeat(), steps_per_epoch=3, verbose=0)
    assert float(model.progress) == pytest.approx(0.3)


def test_saved_is_the_student(tmp_path):
    student = build()
    model = distiller(keras.optimizers.Adam(0.02), student)
    fit(model, X, Y)
    with pytest.raises(NotImplementedError, match="What should be saved or cloned is the student"):
        model.save(tmp_path / "m.keras")
    student.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for task, output in loaded.predict(X, verbose=0).items():
        np.testing.assert_array_equal(output, model.predict(X, verbose=0)[task])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: distill(build(), {"color": build(["kind"])}), r"keys of `teachers` should be tasks .*\['color'\]"),
        (lambda: distill(build(), {"kind": build(["sold"])}), r"task 'kind' should have an output for it.*\['sold'\]"),
        (lambda: distill(build(["kind"]), build(["sold"])), r"a model with an output for a task of \['kind'\]"),
        (
            lambda: distill(build(), {"kind": plain_model(7)}),
            r"'kind' should have .* \(None, 3\), .*same classes .*\(None, 7\)",
        ),
        (lambda: distill(build(), {"kind": layers.Dense(3)}), r"teacher of task 'kind' should be a Keras model"),
        (lambda: distill(build(), {"kind": []}), r"`teachers` of task 'kind' should be one model or more"),
        (lambda: distill(build(), {}), r"`teachers` should be a dict from task to a Keras model"),
        (lambda: distill(build(), {"kind": keras.Sequential([layers.Dense(3)])}), r"its outputs are known"),
        (lambda: distill(plain_model(3), {}), r"`student` should be a `keras_mtl.MultiTaskModel`"),
        (lambda: distill(build(), teachers(), temperature=0.0), r"`temperature` should be positive"),
        (lambda: distill(build(), teachers(), annealing=1.5), r"`annealing` should be 'linear', a number from 0 to 1"),
        (lambda: distill(build(), teachers(), steps=0), "`steps` should be `None` or an integer of at least 1"),
        (lambda: distill(build(), teachers(), hints={"kind": 1}), r"A hint should not have the name of a task"),
        (
            lambda: distill(build(), teachers(), hints={"h": ("no", build(), "shared_fc")}),
            r"should name a layer of model .*'no'",
        ),
        (lambda: distill(build(), teachers(), hints={"h": "shared_fc"}), r"\(student layer, teacher, teacher layer\)"),
        (
            lambda: distiller(compiled={"loss": {"kind": "categorical_hinge"}}),
            r"'kind' should be a crossentropy, or a reg",
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def plain_model(width):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(width)(inputs))
