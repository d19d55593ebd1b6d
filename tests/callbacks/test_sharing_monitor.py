"""Gates, dead experts and drifting units, in the logs."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.callbacks import SharingMonitor


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    return x, {"a": x[:, :1], "b": -x[:, 1:2]}


def build(builder, rate=0.0, **options):
    heads = {"a": layers.Dense(1), "b": layers.Dense(1)}
    model = builder(keras.Input((3,)), [layers.Dense(4, activation="tanh")], heads, **options)
    model.compile(keras.optimizers.SGD(rate), loss="mse", run_eagerly=True)
    return model


def fit(model, data, monitor, epochs=1):
    return model.fit(*data, epochs=epochs, verbose=0, callbacks=[monitor]).history


def test_gates_by_hand(data):
    """Gates whose probabilities are set: every example has the same, since the kernel sees a constant input."""
    x = np.ones((8, 3), "float32")
    model = build(keras_mtl.mmoe, experts=4)
    chosen = {"a": [0.5, 0.499, 0.0009, 0.0001], "b": [0.25, 0.749, 0.0009, 0.0001]}
    for task, probabilities in chosen.items():
        model.get_layer(f"{task}_gate").stack[-1].kernel.assign(np.tile(np.log(probabilities) / 3, (3, 1)))
    monitor = SharingMonitor(x)
    logs = fit(model, (x, {task: np.ones((8, 1)) for task in "ab"}), monitor)
    for task, probabilities in chosen.items():
        p = np.array(probabilities)
        assert logs[f"{task}_gate_utilization"][0] == pytest.approx(np.exp(-(p * np.log(p)).sum()) / 4, rel=1e-4)
    assert logs["dead_experts"] == [2]
    assert monitor.history[0]["dead_experts"] == {"gate": ["shared 3", "shared 4"]}
    assert not any("drift" in name for name in logs)


def test_an_expert_that_one_gate_uses_is_alive(data):
    x = np.ones((8, 3), "float32")
    model = build(keras_mtl.mmoe, experts=2)
    for task, probabilities in {"a": [0.999, 0.001], "b": [0.001, 0.999]}.items():
        model.get_layer(f"{task}_gate").stack[-1].kernel.assign(np.tile(np.log(probabilities) / 3, (3, 1)))
    assert fit(model, (x, {task: np.ones((8, 1)) for task in "ab"}), SharingMonitor(x))["dead_experts"] == [0]


def test_gates_of_several_levels(data):
    model = keras_mtl.ple(
        keras.Input((3,)),
        [layers.Dense(4), layers.Dense(4)],
        {"a": layers.Dense(1), "b": layers.Dense(1)},
        shared_experts=1,
        task_experts=1,
    )
    model.compile("sgd", loss="mse", run_eagerly=True)
    monitor = SharingMonitor(data[0])
    logs = fit(model, data, monitor)
    (entry,) = monitor.history
    assert set(entry["gates"]) == {"a/gate_1", "b/gate_1", "shared/gate_1", "a/gate_2", "b/gate_2"}
    assert logs["a_gate_utilization"][0] == pytest.approx((entry["gates"]["a/gate_1"] + entry["gates"]["a/gate_2"]) / 2)
    assert logs["shared_gate_utilization"][0] == pytest.approx(entry["gates"]["shared/gate_1"])
    assert set(entry["dead_experts"]) == {"gate_1", "gate_2"}


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.cross_stitch, {}),
        (keras_mtl.cross_stitch, {"per": "layer"}),
        (keras_mtl.nddr, {}),
        (keras_mtl.sluice, {}),
    ],
)
def test_units_drift_from_where_they_started(data, builder, options):
    model = build(builder, **options)
    start = {scope: values.copy() for scope, values in model.sharing_coefficients().items()}
    logs = fit(model, data, SharingMonitor())
    assert logs["a_unit_drift"] == [0.0] and logs["b_unit_drift"] == [0.0]
    moved = [v for layer in model.layers for v in layer.trainable_variables if v.name in ("alpha", "kernel", "beta")]
    for variable in moved:
        variable.assign_add(0.25 * np.ones(variable.shape))
    monitor = SharingMonitor()
    logs = fit(model, data, monitor)
    for scope, values in model.sharing_coefficients().items():
        np.testing.assert_allclose(values - start[scope], 0.25, atol=1e-6)
        assert monitor.history[0]["units"][scope] == pytest.approx(0.25, rel=1e-5)
    assert logs["a_unit_drift"][0] == pytest.approx(0.25, rel=1e-5)
    assert "dead_experts" not in logs


def test_drift_is_counted_from_the_start_after_loading(data, tmp_path):
    model = build(keras_mtl.cross_stitch, rate=0.1)
    before = fit(model, data, SharingMonitor())["a_unit_drift"][0]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.optimizer.learning_rate = 0.0
    assert before > 0 and fit(loaded, data, SharingMonitor())["a_unit_drift"][0] == pytest.approx(before, rel=1e-5)


def test_training_can_stop_by_it(data):
    stopping = keras.callbacks.EarlyStopping("dead_experts", mode="min", patience=1)
    model = build(keras_mtl.mmoe, experts=2)
    logs = model.fit(*data, epochs=5, verbose=0, callbacks=[SharingMonitor(data[0]), stopping]).history
    assert len(logs["loss"]) == 2


def test_refuses_models_without_gates_and_gates_without_inputs(data):
    with pytest.raises(ValueError, match="gates or units"):
        fit(build(keras_mtl.hard_sharing), data, SharingMonitor())
    with pytest.raises(ValueError, match=r"\['a/gate', 'b/gate'\]"):
        fit(build(keras_mtl.mmoe, experts=2), data, SharingMonitor())
    logs = fit(build(keras_mtl.dselect_k, experts=2, k=1), data, SharingMonitor())  # its gates need no example
    assert 0.5 <= logs["a_gate_utilization"][0] <= 1.0
