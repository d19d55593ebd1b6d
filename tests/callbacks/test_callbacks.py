"""Callbacks: conflicts in NumPy, live weights, tasks that stop."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.callbacks import ConflictMonitor, TaskEarlyStopping, WeightSchedule
from keras_mtl.callbacks.task_early_stopping import tcdcn_criterion


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    return x, {"a": (x[:, :1] * 2).astype("float32"), "b": (-x[:, :1] + x[:, 1:2]).astype("float32")}


def build(**options):
    stages = [layers.Dense(4, activation="tanh"), layers.Dense(4, activation="tanh")]
    model = keras_mtl.hard_sharing(keras.Input((3,)), stages, {"a": layers.Dense(1), "b": layers.Dense(1)})
    model.compile(keras.optimizers.SGD(0.05), loss="mse", **options)
    return model


def test_a_copied_callback_has_no_model(data):
    """A copy of a list of callbacks leaves the model to the originals, and to callbacks that keep it themselves."""
    monitor, plain = ConflictMonitor(*data, every=2), keras.callbacks.Callback()
    model = build()
    for callback in (monitor, plain):
        callback.set_model(model)
        callback.set_params({"steps": 3})
    monitor.nothing = None
    copied = copy.deepcopy(monitor)
    assert copied.model is None and monitor.model is model and plain.model is model
    assert copied.every == 2 and copied.params == {"steps": 3} and copied.nothing is None


def test_conflict_monitor_in_numpy(data):
    """Cosine, magnitude similarity and norms equal those from plain gradients."""
    x, y = data
    model = build()
    monitor = ConflictMonitor(x, y, every=2)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[monitor])
    assert [entry["step"] for entry in monitor.history] == [1, 2, 4]
    before = [np.array(v) for v in model.variables]
    entry = monitor.measure()
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    for index, name in enumerate(monitor.layers):
        variables = [v.value for v in model.get_layer(name).trainable_variables]
        gradients = []
        for task in "ab":
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x)[task] - y[task]) ** 2)
            gradients.append(np.concatenate([g.numpy().ravel() for g in tape.gradient(loss, variables)]))
        norms = np.linalg.norm(gradients, axis=1)
        cosine = gradients[0] @ gradients[1] / norms.prod()
        similarity = 2 * norms.prod() / (norms**2).sum()
        assert entry["cosine"][index, 0, 1] == pytest.approx(cosine, abs=1e-5)
        assert entry["magnitude_similarity"][index, 0, 1] == pytest.approx(similarity, rel=1e-5)
        assert entry["conflict_rate"][index] == float(cosine < 0)


def test_conflict_monitor_by_hand():
    """Two inputs, two tasks that pull the same kernel apart: gradients, logs and shares from the equations."""
    inputs = keras.Input((2,))
    shared = layers.Dense(1, use_bias=False, kernel_initializer="ones", name="shared")(inputs)
    model = keras_mtl.MultiTaskModel(inputs, {t: layers.Identity(name=t)(shared) for t in "abc"})
    model.compile(keras.optimizers.SGD(0.0), loss="mse", loss_weights={"b": 3.0})
    x = np.array([[1.0, 2.0]], "float32")
    # The output is 3; dL/dw = 2 (3 - y) x: residuals of 1, -2 and 0.5 times 2 x, whose norm is sqrt(20).
    y = {"a": np.array([[2.0]]), "b": np.array([[5.0]]), "c": np.array([[2.5]])}
    monitor = ConflictMonitor(x, y, every=1)
    logs = model.fit(x, y, epochs=2, verbose=0, callbacks=[monitor]).history
    entry = monitor.history[0]
    np.testing.assert_allclose(entry["total_grad_norm"], np.sqrt(20) * np.array([1, 2, 0.5]), rtol=1e-5)
    np.testing.assert_allclose(entry["cosine"][0], [[1, -1, 1], [-1, 1, -1], [1, -1, 1]], rtol=1e-5)
    np.testing.assert_allclose(entry["magnitude_similarity"][0, 0, 1:], [2 * 2 / 5, 2 * 0.5 / 1.25], rtol=1e-5)
    assert entry["conflict_rate"] == pytest.approx(2 / 3)
    np.testing.assert_array_equal(monitor.conflict_rates()[0], [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert logs["conflict_rate"] == pytest.approx([2 / 3] * 2)
    assert logs["grad_cosine"] == pytest.approx([-1 / 3] * 2) and logs["grad_cosine_a_b"] == pytest.approx([-1] * 2)
    # Logged norms are those of the weighted losses, as weightings see them.
    assert logs["b_grad_norm"] == pytest.approx([np.sqrt(20) * 6] * 2, rel=1e-5)
    shares = {task: logs[f"{task}_grad_share"][0] for task in "abc"}
    assert shares == pytest.approx({"a": 1 / 7.5, "b": 6 / 7.5, "c": 0.5 / 7.5}, rel=1e-5)


def test_conflict_monitor_measures_every_epoch_and_keeps_what_the_weighting_logs(data):
    x, y = data
    monitor = ConflictMonitor(x, y, every=1000)
    logs = build(weighting="mgda").fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[monitor]).history
    assert [entry["step"] for entry in monitor.history] == [1, 4, 6]
    plain = build(weighting="mgda").fit(x, y, batch_size=16, epochs=1, verbose=0).history
    assert len(logs["grad_cosine_a_b"]) == 3 and "grad_cosine_a_b" not in plain
    assert logs["a_grad_share"][0] + logs["b_grad_share"][0] == pytest.approx(1.0)
    assert set(plain) >= {"a_grad_norm", "grad_cosine"}  # by the weighting itself, over every step
    assert logs["a_grad_norm"][0] != pytest.approx(monitor.history[0]["total_grad_norm"][0], rel=1e-4)


def test_weight_schedule_takes_effect_on_the_next_epoch(data):
    x, y = data
    model = build()
    heads = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            heads.append(np.array(model.get_layer("a").weights[0]))

    schedule = WeightSchedule({"a": lambda epoch: float(epoch < 1)})
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[schedule, Keep()]).history
    assert history["a_weight"] == [1.0, 0.0, 0.0]
    np.testing.assert_array_equal(heads[0], heads[2])
    assert history["loss"][1] == pytest.approx(history["b_loss"][1], rel=1e-5)


def test_weight_schedule_refuses_unknown_tasks_and_bad_weights(data):
    with pytest.raises(ValueError, match="'c'"):
        build().fit(*data, verbose=0, callbacks=[WeightSchedule({"c": lambda epoch: 1.0})])
    with pytest.raises(ValueError, match="at least 0"):
        build().fit(*data, verbose=0, callbacks=[WeightSchedule({"a": lambda epoch: -1.0})])


@pytest.mark.parametrize("weighting", ["equal", "mgda"])
def test_one_task_stops_and_goes_back_to_its_best(data, weighting):
    x, y = data
    model = build(weighting=weighting)
    heads = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            heads.append(np.array(model.get_layer("a").weights[0]))

    # Nothing is better than the first epoch by so much.
    stopping = TaskEarlyStopping(tasks=["a"], patience=2, min_delta=1e6)
    history = model.fit(x, y, epochs=5, validation_data=(x, y), verbose=0, callbacks=[Keep(), stopping]).history
    assert stopping.stopped == {"a": 2}
    np.testing.assert_array_equal(np.array(model.get_layer("a").weights[0]), heads[0])
    assert history["a_weight"][3:] == [0.0, 0.0] and min(history["b_weight"]) > 0
    assert history["b_loss"][4] < history["b_loss"][2]


def test_training_ends_when_every_task_has_stopped(data):
    x, y = data
    stopping = TaskEarlyStopping(patience=1, min_delta=1e6)
    history = build().fit(x, y, epochs=9, validation_data=(x, y), verbose=0, callbacks=[stopping]).history
    assert len(history["loss"]) == 2


def test_stopping_refuses_unknown_logs(data):
    with pytest.raises(ValueError, match="'val_a_loss'"):
        build().fit(*data, verbose=0, callbacks=[TaskEarlyStopping()])
    with pytest.raises(ValueError, match=r"\['z'\]"):
        build().fit(*data, verbose=0, callbacks=[TaskEarlyStopping(tasks=["z"])])


def test_stopping_asks_for_a_direction_that_no_name_tells():
    with pytest.raises(ValueError, match=r"`mode` should say 'max' or 'min'.*'val_\{task\}_score'"):
        TaskEarlyStopping(monitor="val_{task}_score")
    TaskEarlyStopping(monitor="val_{task}_score", mode="max")


def test_a_task_may_be_called_like_a_metric(data):
    """Its name says nothing of the direction."""
    x, _ = data
    y = {"accident": x[:, :1], "terror": x[:, 1:2]}
    model = keras_mtl.hard_sharing(keras.Input((3,)), [layers.Dense(2)], {task: layers.Dense(1) for task in y})
    model.compile(keras.optimizers.SGD(1e-3), loss="mse", metrics={task: ["r2_score"] for task in y}, run_eagerly=True)
    for monitor in ("val_{task}_loss", "val_{task}_r2_score"):
        stopping = TaskEarlyStopping(patience=1, monitor=monitor)
        model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0, callbacks=[stopping])
        assert stopping.stopped == {}  # both get better


class TestTcdcnCriterion:
    """The task-wise rule: trend of the training loss times generalization gap."""

    def test_a_falling_task_without_gap_never_stops(self):
        rule = tcdcn_criterion(threshold=1.0, window=5)
        losses = [0.9**t for t in range(60)]
        assert not any(rule(losses[: t + 1], losses[: t + 1], 1.0) for t in range(60))

    def test_a_flat_task_with_rising_validation_stops(self):
        rule = tcdcn_criterion(threshold=1.0, window=5)
        stops = [rule([1.0] * (t + 1), [1.0 + 0.1 * i for i in range(t + 1)], 1.0) for t in range(8)]
        assert stops.index(True) <= 6

    def test_by_hand(self):
        # k = 2: median of (4, 3, 2) is 3, trend 6 / (9 - 6) = 2, gap (3 - 2) / (0.5 * 2) = 1.
        history = ([4.0, 3.0, 2.0], [5.0, 4.0, 3.0], 0.5)
        assert tcdcn_criterion(1.99, window=2)(*history) and not tcdcn_criterion(2.01, window=2)(*history)

    def test_twice_the_weight_needs_twice_the_gap(self):
        rule = tcdcn_criterion(threshold=10.0, window=3)
        train = [1.0] * 4
        gap = next(g for g in np.arange(0, 50, 0.01) if rule(train, [1 + g] * 4, 1.0))
        double = next(g for g in np.arange(0, 50, 0.01) if rule(train, [1 + g] * 4, 2.0))
        assert double == pytest.approx(2 * gap, rel=0.01)
