"""What holds on JAX: `python -m tests.backends.checks FOLDER NAME...` runs these and cells, and writes results."""

import json
import pathlib
import sys
import traceback
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_mtl
from keras_mtl import weighting as W
from keras_mtl.training.backends import core
from tests.backends import cells

TENSORFLOW_CAME = "tensorflow" in sys.modules
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = {"a": X[:, :1] + 1.0, "b": X[:, 1:2] * 2.0}
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def make(weighting="equal", stages=None, optimizer=None, **options):
    keras.utils.set_random_seed(0)
    stages = stages or [layers.Dense(5, activation="tanh"), layers.Dense(4, activation="tanh")]
    model = keras_mtl.hard_sharing(keras.Input((4,)), stages, {"a": layers.Dense(1), "b": layers.Dense(1)})
    model.compile(optimizer or keras.optimizers.Adam(0.05), loss="mse", weighting=weighting, **options)
    cells.start(model)
    return model


def values(model):
    return [ops.convert_to_numpy(v.value) for v in (*model.variables, *model.optimizer.variables)]


def assert_same(one, other, **tolerance):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@check
def tensorflow_is_not_imported_before_keras_does(folder):
    assert not TENSORFLOW_CAME


# Models that one backend saves and another loads


def halfway(model, step):
    batch = slice(8 * step, 8 * step + 8)
    return model.train_on_batch(X[batch], {task: y[batch] for task, y in Y.items()}, return_dict=True)


def to_be_saved():
    """A model with state of every kind: of layers, of the optimizer, of a weighting."""
    stages = [layers.Dense(5, activation="tanh"), layers.BatchNormalization()]
    return make("gradnorm", stages, keras.optimizers.Adam(0.05, gradient_accumulation_steps=2))


def save_halfway(folder):
    """What TensorFlow has after two steps of three, and after all."""
    model = to_be_saved()
    for step in range(2):
        halfway(model, step)
    model.save(folder / "from_tensorflow.keras")
    logs = halfway(model, 2)
    np.savez(folder / "whole.npz", *values(model), [float(logs[name]) for name in sorted(logs)])


def assert_goes_on(saved, whole):
    """The third step of a model that was saved after two leads to what all three in one process lead to."""
    model = keras.saving.load_model(saved)
    logs = halfway(model, 2)
    with np.load(whole) as expected:
        found = [*values(model), np.array([float(logs[name]) for name in sorted(logs)])]
        assert_same(found, [expected[f"arr_{i}"] for i in range(len(expected.files))], rtol=0, atol=1e-5)


@check
def a_model_saved_on_tensorflow_goes_on(folder):
    assert_goes_on(folder / "from_tensorflow.keras", folder / "whole.npz")


@check
def a_model_is_saved_for_tensorflow(folder):
    model = to_be_saved()
    for step in range(2):
        halfway(model, step)
    model.save(folder / "from_jax.keras")


# Training


@check
def fit_goes_as_with_single_batches(folder):
    one, other = make("upgrad"), make("upgrad")
    logs = one.fit(X, Y, batch_size=8, shuffle=False, verbose=0, validation_data=(X, Y)).history
    for step in range(3):
        halfway(other, step)
    assert_same(values(one), values(other), atol=1e-6)
    evaluated = one.evaluate(X, Y, batch_size=8, verbose=0, return_dict=True)
    for name, value in evaluated.items():
        np.testing.assert_allclose(logs[f"val_{name}"], [value], rtol=1e-6)
    said = one.predict(X, verbose=0)
    np.testing.assert_allclose(np.mean((said["a"] - Y["a"]) ** 2), evaluated["a_loss"], rtol=1e-5)


@check
def a_step_that_is_not_finite_leaves_the_model(folder):
    bad = {"a": Y["a"], "b": np.where(np.arange(24)[:, None] == 9, np.inf, Y["b"]).astype("float32")}
    model, other = make("uncertainty"), make("uncertainty")
    with pytest.raises(FloatingPointError, match=r"loss of \['b'\]. The model is as it was before that step"):
        model.fit(X, bad, batch_size=8, shuffle=False, verbose=0)
    halfway(other, 0)
    assert_same(values(model), values(other), atol=1e-6)


@check
def a_refused_fit_leaves_the_model(folder):
    model = make("upgrad")
    before = values(model)
    with pytest.raises(ValueError, match="should have the shape"):
        model.fit(X, {**Y, "a": np.zeros((24, 3), "float32")}, batch_size=8, verbose=0)
    assert_same(values(model)[: len(model.variables)], before[: len(model.variables)], rtol=0)


@check
def static_weights_change_within_an_epoch(folder):
    own = keras.Variable(1.0)

    class Change(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            own.assign(3.0)
            self.model.set_task_weights({"a": 0.0})

    model = make(loss_weights={"a": 1.0, "b": own}, optimizer=keras.optimizers.SGD(0.0))
    logs = model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[Change()]).history
    # Step by step the weights are 1, 3 and 3.
    np.testing.assert_allclose(logs["b_weight"], [7 / 3], rtol=1e-6)


@check
def layers_are_frozen_within_an_epoch(folder):
    class Freeze(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                self.model.layers[1].trainable = False

    model, other = make(optimizer="sgd"), make(optimizer="sgd")
    kernel = model.layers[1].trainable_variables[0]
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[Freeze()])
    halfway(other, 0)
    np.testing.assert_allclose(kernel.value, other.layers[1].trainable_variables[0].value, atol=1e-6)


@check
def callbacks_see_the_model_as_it_is(folder):
    monitor = keras_mtl.callbacks.ConflictMonitor(X, Y, every=1)
    affinity = keras_mtl.callbacks.TaskAffinity(X, Y, batch_size=24, every=1)
    schedule = keras_mtl.callbacks.WeightSchedule({"a": lambda epoch: 1.0 + epoch})
    board = keras_mtl.callbacks.TaskBoard(str(folder / "board"))
    model, other = make(optimizer="sgd"), make(optimizer="sgd")
    logs = model.fit(
        X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[monitor, affinity, schedule, board]
    ).history
    np.testing.assert_allclose(logs["a_weight"], [1.0, 2.0])
    assert len(monitor.history) == len(affinity.history) == 6
    # After the first step: the norm of a task's gradient by finite differences of its loss along itself.
    halfway(other, 0)
    direct = keras_mtl.callbacks.ConflictMonitor(X, Y)
    direct.set_model(other)
    direct.on_train_begin()
    np.testing.assert_allclose(monitor.history[0]["grad_norm"], direct.measure()["grad_norm"], rtol=1e-5)
    step = affinity.history[0]
    assert np.all(np.diag(step["affinity"]) > 0) and np.allclose(np.diag(step["cosine"]), 1.0, atol=1e-5)


@check
def steps_per_execution(folder):
    one, other = make("dbmtl", steps_per_execution=3), make("dbmtl")
    for model in (one, other):
        model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    assert_same(values(one), values(other), atol=1e-6)


@check
def steps_run_eagerly(folder):
    one, other = make("upgrad", run_eagerly=True), make("upgrad")
    for model in (one, other):
        model.fit(X[:8], {task: y[:8] for task, y in Y.items()}, batch_size=8, shuffle=False, verbose=0)
    assert_same(values(one), values(other), atol=1e-6)


@check
def every_builder_trains_and_is_saved(folder):
    from tests.models.examples import EVERY, build, draw_inputs, draw_labels, tasks_of

    for name in EVERY:
        model, rng = build(name), np.random.default_rng(0)
        x, y = draw_inputs(model, 12, rng), draw_labels(model, tasks_of(name), 12, rng)
        model.compile(keras.optimizers.Adam(0.01), loss="mse", weighting="uncertainty")
        first, second = (model.train_on_batch(x, y, return_dict=True) for _ in range(2))
        assert np.isfinite([first["loss"], second["loss"]]).all(), name
        model.save(folder / f"{name}.keras")
        loaded = keras.saving.load_model(folder / f"{name}.keras")
        assert_same(loaded.predict_on_batch(x).values(), model.predict_on_batch(x).values(), atol=1e-6)


@check
def layers_are_released_and_training_stops(folder):
    unfreeze = keras_mtl.callbacks.GradualUnfreezing(every=1)
    stop = keras_mtl.callbacks.TaskEarlyStopping(patience=1)
    model = make("uncertainty", optimizer="sgd")
    logs = model.fit(
        X, Y, batch_size=8, epochs=4, verbose=0, validation_data=(X, Y), callbacks=[unfreeze, stop]
    ).history
    assert np.isfinite(logs["loss"]).all()


def on_two_devices(weighting, place):
    devices = keras.distribution.list_devices()
    assert len(devices) == 2
    found = []
    for distribution in (None, keras.distribution.DataParallel(devices=devices)):
        keras.distribution.set_distribution(distribution)
        try:
            model = make(weighting, gradients=place)
            model.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
            found.append(values(model))
        finally:
            keras.distribution.set_distribution(None)
    assert_same(*found, atol=1e-5)


@check
def two_devices_are_as_one(folder):
    """Features lie on both devices, as examples do; parameters, by themselves below, are on each."""
    on_two_devices("mgda", "features")


@check
def two_devices_are_as_one_for_parameters(folder):
    on_two_devices("upgrad", "parameters")


@check
def other_backends_are_refused(folder):
    model, backend = make(), keras.backend.backend
    keras.backend.backend = lambda: "torch"
    try:
        with pytest.raises(RuntimeError, match=r"backends TensorFlow and JAX.*Received: the backend 'torch'"):
            model.compile("sgd", loss="mse")
    finally:
        keras.backend.backend = backend


@check
def large_gradients_are_summed_in_blocks(folder):
    """Inner products and sums by NumPy in float64, of a size that is no multiple of a block, and of any scale."""
    from keras_mtl.training.backends import _blockwise
    from keras_mtl.training.task_gradients import TaskGradients

    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(301, 257)).astype("float32") * scale for scale in (1.0, 1e25, 1e-25)]
    target = keras.Variable(np.zeros((301, 257), "float32"))
    gradients = TaskGradients([[ops.convert_to_tensor(row)] for row in rows], [target])
    assert isinstance(gradients.of_targets[0], _blockwise.BlockwiseRows)
    flat = np.array([row.ravel() for row in rows], "float64")
    expected, norms = flat @ flat.T, np.linalg.norm(flat, axis=1)
    found = np.asarray(gradients.gramian())
    np.testing.assert_allclose(found / np.outer(norms, norms), expected / np.outer(norms, norms), atol=1e-6)
    weights = np.array([0.5, 1e-25, 1e25], "float32")
    combined = np.asarray(gradients.combine(ops.convert_to_tensor(weights))[0])
    np.testing.assert_allclose(combined.ravel(), weights.astype("float64") @ flat, atol=1e-5)
    assert _blockwise.BlockwiseRows.where_worth_it([None, rows[0]], target) is None


SCALES = (1.0, 1e18, 1e-18)  # of the tasks' losses


def kernel_gradients(layer, x, of_losses):
    """How the task gradients of a layer's kernel are kept, after comparing with NumPy's of the gradients one by one."""
    import jax

    from keras_mtl.training.task_gradients import TaskGradients

    layer(x)
    kernel, weights = layer.trainable_variables[0], np.array([0.5, 1e-18, 1e18], "float32")
    forms = []

    def losses(value):
        with keras.StatelessScope([(kernel, value)]):
            return of_losses(layer(x))

    @jax.jit
    def found(value):
        with keras.StatelessScope([(kernel, value)]):
            pullback = core.Pullback(lambda: (of_losses(layer(x)), ()), [kernel])
            gradients = TaskGradients([pullback.of(k)[0] for k in range(3)], [kernel])
            forms.append(type(gradients.of_targets[0]).__name__)
            return gradients.gramian(), gradients.combine(ops.convert_to_tensor(weights))[0], gradients.jacobian()

    gramian, combined, jacobian = map(np.asarray, found(kernel.value))
    one_by_one = [jax.grad(lambda value, k=k: losses(value)[k]) for k in range(3)]
    rows = jax.jit(lambda value: [gradient(value) for gradient in one_by_one])(kernel.value)
    flat = np.array([np.asarray(row).ravel() for row in rows], "float64")
    norms = np.linalg.norm(flat, axis=1)
    norms[norms == 0] = 1.0
    atol = 0.02 if "float16" in layer.compute_dtype else 2e-6
    np.testing.assert_allclose(gramian / np.outer(norms, norms), flat @ flat.T / np.outer(norms, norms), atol=atol)
    np.testing.assert_allclose(jacobian / norms[:, None], flat / norms[:, None], atol=atol)
    scale = np.abs(weights) @ norms
    np.testing.assert_allclose(combined.ravel() / scale, weights.astype("float64") @ flat / scale, atol=atol)
    return forms[0]


def squares(y):
    y = ops.cast(y, "float32")
    factors = np.random.default_rng(1).normal(size=(3, y.shape[-1])).astype("float32")
    return [ops.sum(ops.square(y) * (row * scale)) for row, scale in zip(factors, SCALES, strict=True)]


@check
def dense_kernels_keep_their_factors(folder):
    """Where a product with the very inputs is all that a kernel is used for, and the batch is narrow."""
    from keras_mtl.training.backends import _dense_kernels

    def draw(*shape):
        return np.random.default_rng(0).normal(size=shape).astype("float32")

    dense = layers.Dense(16, "tanh")

    class Twice(layers.Layer):
        def call(self, x):
            return dense(dense(x))

        def compute_output_shape(self, shape):
            return shape

    class Turned(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(16, 16))

        def call(self, x):
            return ops.transpose(ops.matmul(self.kernel, ops.transpose(x)))

    dense.build((None, 16))
    twice = Twice()
    twice.dense = dense
    cases = {
        "narrow": (layers.Dense(16, "relu"), draw(4, 16), squares, True),
        "one example": (layers.Dense(16), draw(1, 16), squares, True),
        "wide": (layers.Dense(16), draw(64, 16), squares, False),
        "sequence": (layers.Dense(16, "tanh"), draw(2, 2, 16), squares, True),
        "long sequence": (layers.Dense(16), draw(2, 32, 16), squares, False),
        "regularized": (layers.Dense(16), draw(4, 16), lambda y: [*squares(y), ops.sum(y)], True),
        "used twice": (twice, draw(4, 16), squares, False),
        "another product": (Turned(), draw(4, 16), squares, False),
        "einsum": (layers.EinsumDense("abc,cde->abde", (1, 4, 4)), draw(4, 1, 16), squares, False),
        "half precision": (layers.Dense(16, dtype="mixed_bfloat16"), draw(4, 16), squares, False),
        "an absent task": (layers.Dense(16), draw(4, 16), lambda y: [*squares(y)[:2], ops.zeros(())], False),
    }
    smallest, _dense_kernels._SMALLEST = _dense_kernels._SMALLEST, 1
    try:
        for name, (layer, x, losses, kept) in cases.items():
            assert (kernel_gradients(layer, x, losses) == "DenseKernelRows") == kept, name
    finally:
        _dense_kernels._SMALLEST = smallest
    assert kernel_gradients(layers.Dense(16), draw(4, 16), squares) == "Rows"  # too small to be worth it


@check
def kernels_of_a_model_keep_their_factors(folder):
    """Regularizers, which use kernels too, are another output of the step."""
    from keras_mtl.training.backends import _dense_kernels

    made, smallest = [], _dense_kernels._SMALLEST

    class Watched(_dense_kernels.DenseKernelRows):
        def gramian(self, units):
            made.append(tuple(self.target.shape))
            return super().gramian(units)

    def step(place, distribution=None):
        stages = [layers.Dense(32, kernel_regularizer="l2"), layers.Dense(32, "relu", kernel_regularizer="l2")]
        made.clear()
        keras.distribution.set_distribution(distribution)
        try:
            model = make("upgrad", stages, optimizer="sgd", gradients=place)
            model.fit(X[:8], {task: y[:8] for task, y in Y.items()}, batch_size=8, shuffle=False, verbose=0)
        finally:
            keras.distribution.set_distribution(None)
        assert set(made) == {(32, 32)}, place
        return values(model)

    _dense_kernels._SMALLEST, core.DenseKernelRows = 1, Watched
    try:
        step("last_shared")
        devices = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
        assert_same(step("parameters"), step("parameters", devices), atol=1e-5)
    finally:
        _dense_kernels._SMALLEST, core.DenseKernelRows = smallest, _dense_kernels.DenseKernelRows


# What stands on top of training


@check
def mixtures(folder):
    import tensorflow as tf

    parts = {task: tf.data.Dataset.from_tensor_slices((X, y)) for task, y in Y.items()}
    model = make("upgrad", optimizer="sgd")
    sampler = keras_mtl.data.LossRatio()  # which reads how training goes after each step
    data = keras_mtl.data.mix(parts, sampler, batch_size=8, batch="interleave", stop=6, seed=0)
    logs = model.fit(data, epochs=2, verbose=0).history
    assert all(a + b == data.steps for a, b in zip(logs["a_batches"], logs["b_batches"], strict=True))
    assert np.isfinite(data.stats.recent("a_loss")) and np.isfinite(logs["loss"]).all()


@check
def distillation(folder):
    teachers = {}
    for task in Y:
        inputs = keras.Input((4,))
        teachers[task] = keras.Model(inputs, layers.Dense(1)(inputs))
    student = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(4)], {task: layers.Dense(1) for task in Y})
    distilled = keras_mtl.distillation.distill(student, teachers)
    distilled.compile(keras.optimizers.Adam(0.05), loss="mse", weighting="mgda")
    logs = distilled.fit(X, Y, batch_size=8, epochs=3, verbose=0).history
    assert logs["loss"][-1] < logs["loss"][0]
    assert float(distilled.steps_done.value) == 9


@check
def comparisons(folder):
    options = {"metrics": dict.fromkeys(Y, "loss"), "test": (X, Y), "directory": folder / "runs", "progress": False}
    reports = [
        keras_mtl.analysis.compare({"shared": make}, (X, Y), epochs=1, seeds=[0], batch_size=8, **options)
        for _ in range(2)
    ]
    assert reports[0].delta_m("shared") == reports[1].delta_m("shared")  # from the store, the second time


@check
def searches(folder):
    from tests.tuning import searches as small

    trials = small.search(small.random_search(folder / "search", small.make(), 2))
    assert [trial.status for trial in trials] == ["COMPLETED"] * 2 and all(np.isfinite(t.score) for t in trials)


@check
def advice(folder):
    answer = keras_mtl.advise(
        keras.Input((4,)),
        stages=[layers.Dense(4, activation="relu", name="hidden")],
        heads={task: layers.Dense(1) for task in Y},
        train=(X, Y),
        test=(X, Y),
        compile={"optimizer": keras.optimizers.Adam(1e-2), "loss": "mse"},
        metrics=dict.fromkeys(Y, "loss"),
        epochs=2,
        seeds=2,
        batch_size=24,
        progress=False,
    )
    assert answer.verdict.startswith(("Share", "Do not share"))


# Methods


def golden_cases():
    path = pathlib.Path(__file__).parents[1] / "weighting" / "goldens.json"
    return json.loads(path.read_text())["cases"]


@check
def solvers_give_the_goldens(folder):
    from tests.weighting.test_goldens import SHARED

    for name, (method, accuracy) in SHARED.items():
        for case in golden_cases():
            jacobian, expected = np.array(case["J"]), case["methods"][name]
            weights = np.asarray(method().solve(jacobian @ jacobian.T))
            vector = np.array(expected["vector"])
            np.testing.assert_allclose(weights @ jacobian, vector, atol=accuracy * np.abs(vector).max(), err_msg=name)
            if expected["weights"] is not None:
                np.testing.assert_allclose(weights, expected["weights"], rtol=accuracy, err_msg=name)


@check
def solvers_work_in_float64_at_every_scale(folder):
    """Weights of rescaled rows are rescaled weights: of Nash and of MGDA on rows of very different lengths."""
    jacobian = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    expected = np.asarray(W.NashMTL(max_norm=0).solve(jacobian @ jacobian.T))
    np.testing.assert_allclose(expected, (0.5915, 0.4071), atol=6e-5)  # by hand, as in tests/weighting/test_goldens.py
    for scales in ((0.01, 100.0), (1e-10, 1e-10), (1e10, 1e10), (1e-5, 1e5)):
        rows = jacobian * np.array(scales)[:, None]
        found = np.asarray(W.NashMTL(max_norm=0).solve(rows @ rows.T))
        assert found.dtype == "float64"
        np.testing.assert_allclose(found * scales, expected, rtol=1e-6)


QUICK = [
    "dense_kernels_keep_their_factors",
    "large_gradients_are_summed_in_blocks",
    "tensorflow_is_not_imported_before_keras_does",
    "a_model_saved_on_tensorflow_goes_on",
    "a_model_is_saved_for_tensorflow",
    "a_step_that_is_not_finite_leaves_the_model",
    "a_refused_fit_leaves_the_model",
    "static_weights_change_within_an_epoch",
    "layers_are_frozen_within_an_epoch",
    "two_devices_are_as_one",
    "other_backends_are_refused",
    "solvers_work_in_float64_at_every_scale",
]
ALL = list(CHECKS)


def main(folder, *names):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="The mean weight of ", category=UserWarning)
    warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy")  # Keras' variables
    warnings.filterwarnings("ignore", message=r"(currentThread|getName)\(\) is deprecated")  # keras-tuner
    warnings.filterwarnings("ignore", message="`shuffle=True` was passed, but will be ignored", category=UserWarning)
    folder, found = pathlib.Path(folder), {}
    for name in sorted(names, key=lambda name: name != "a_model_is_saved_for_tensorflow"):
        keras.utils.clear_session(free_memory=False)
        try:
            found[name] = CHECKS[name](folder) or np.ones(()) if name in CHECKS else cells.numbers(name)
        except BaseException:
            found[name] = np.array(traceback.format_exc())
    np.savez(folder / "found.npz", **{name.replace("/", "|"): value for name, value in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
