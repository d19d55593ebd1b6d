"""Distillation: weightings, hints, inputs, annealing, going on, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.distillation import distill
from tests.distillation.by_hand import (
    LOSS,
    PRICE,
    WIDTHS,
    C,
    X,
    Y,
    assert_logs,
    build,
    distiller,
    fit,
    losses_by_hand,
    outputs_of,
    said_by,
    softmax,
    teachers,
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
    student.compile("sgd", LOSS, metrics={"kind": ["accuracy"]}, run_eagerly=True)
    plain = student.evaluate(X, Y, return_dict=True, verbose=0)
    assert model.evaluate(X, Y, return_dict=True, verbose=0) == pytest.approx(plain, rel=1e-5)
    logs = fit(model, X, Y, validation_data=(X, Y))
    assert logs["val_kind_loss"] == pytest.approx(plain["kind_loss"], rel=1e-5) != logs["kind_loss"]
    assert logs["kind_accuracy"] == pytest.approx(plain["kind_accuracy"])


@pytest.mark.parametrize("options", [{"weighting": "uncertainty"}, {"weighting": "mgda", "gradients": "features"}])
def test_teachers_stay_and_students_learn_under_any_weighting(options):
    student, given = build(hidden=8), teachers()
    before = [w.copy() for teacher in given.values() for w in teacher.get_weights()]
    model = distiller(
        keras.optimizers.Adam(0.05), student, given, annealing=0.0, compiled={"run_eagerly": False, **options}
    )
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
    model.compile(keras.optimizers.SGD(0.0), LOSS, loss_weights={"hint": 0.1}, run_eagerly=True)
    logs = fit(model, X, Y, validation_data=(X, Y))
    features, taught = (
        np.array(keras.Model(m.input, m.get_layer(name).output)(X))
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
    model.compile(keras.optimizers.SGD(0.0), LOSS["kind"], run_eagerly=True)
    logs = fit(model, {"a": X, "b": 2 * X})
    z, t = np.array(student({"a": X, "b": 2 * X})["kind"]), np.array(teacher({"a": X}))
    assert logs["kind_loss"] == pytest.approx(-(softmax(t) * np.log(softmax(z))).sum(-1).mean(), rel=1e-4)


def test_steps_per_execution_and_going_on_after_a_kill(tmp_path):
    def run(epochs, callbacks=(), **options):
        student = build()
        model = distiller(keras.optimizers.Adam(0.02), student, steps=16, compiled={"run_eagerly": False, **options})
        logs = fit(model, X, Y, batch_size=3, epochs=epochs, callbacks=list(callbacks))
        return model, student, logs

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    _, student, logs = run(4)
    _, same, same_logs = run(4, steps_per_execution=4)
    with pytest.raises(KeyboardInterrupt):
        run(4, [keras.callbacks.BackupAndRestore(tmp_path), Kill()], run_eagerly=True)
    again, resumed, resumed_logs = run(4, [keras.callbacks.BackupAndRestore(tmp_path)], run_eagerly=True)
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
    for task, output in loaded(X).items():
        np.testing.assert_array_equal(output, model(X)[task])


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


def test_names_of_what_teachers_say_are_taken():
    inputs = keras.Input((3,))
    tasks = ("kind", "kind_teachers")
    student = keras_mtl.MultiTaskModel(inputs, {task: layers.Dense(2, activation="softmax")(inputs) for task in tasks})
    teacher = keras.Model(inputs, layers.Dense(2, activation="softmax")(inputs))
    model = distill(student, {"kind": teacher}, annealing=0.0)
    with pytest.raises(ValueError, match=r"The names \['kind_teachers'\] are those of what teachers say"):
        model.compile("sgd", loss="categorical_crossentropy")
    assert not model.compiled


def test_labels_of_hints_are_those_of_the_teacher():
    student, given = build(hidden=8), teachers()
    name = next(layer.name for layer in student.layers if layer.weights and student.sharing.is_shared(layer))
    teacher = given["kind"]
    other = next(layer.name for layer in teacher.layers if layer.weights)
    model = distill(student, given, annealing=0.0, hints={"hint": (name, teacher, other)})
    model.compile("sgd", LOSS, run_eagerly=True)
    with pytest.raises(ValueError, match=r"`y` should not have \['hint'\], which Distiller makes itself"):
        model.fit(X, {**Y, "hint": np.zeros((len(X), 3), "float32")}, verbose=0)
