"""Builders whose layers add to the loss, draw random numbers or decompose matrices, in every mode of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl

TASKS = ("a", "b")
BUILDERS = {
    "soft_sharing": (keras_mtl.soft_sharing, {"distance": "trace_norm"}),
    "sluice": (keras_mtl.sluice, {}),
    "mtan": (keras_mtl.mtan, {}),
    "mmoe": (keras_mtl.mmoe, {"experts": 3, "gate_dropout": 0.1}),
    "dselect_k": (keras_mtl.dselect_k, {"experts": 3, "entropy_strength": 0.1}),
    "esmm": (keras_mtl.esmm, {"shared_depth": 1}),
    "depends_on": (keras_mtl.hard_sharing, {"depends_on": {"b": keras_mtl.Dependency("a", stop_gradient=True)}}),
}
MODES = {
    "xla": {"jit_compile": True},
    "steps": {"steps_per_execution": 2},
    "mixed_float16": {},
    "mixed_bfloat16": {},
}


def build(name):
    builder, options = BUILDERS[name]
    stages = [keras.layers.Dense(4, activation="tanh", name=stage) for stage in ("low", "high")]
    return builder(keras.Input((3,)), stages, {task: keras.layers.Dense(1) for task in TASKS}, **options)


def data():
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    return x, dict.fromkeys(TASKS, x[:, :1])


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BUILDERS)
def test_mode(name, mode):
    if mode.startswith("mixed"):
        keras.config.set_dtype_policy(mode)
    model = build(name)
    model.compile("sgd", loss=dict.fromkeys(TASKS, "mse"), **MODES[mode])
    x, y = data()
    logs = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert all(np.isfinite(v).all() for v in model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_sharing", "sluice", "dselect_k", "depends_on"])
def test_two_replicas_equal_one_device(name, mirrored_strategy):
    single = build(name)
    start = single.get_weights()
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(4)
    single.compile("sgd", loss=dict.fromkeys(TASKS, "mse"))
    single.fit(dataset, epochs=2, verbose=0)
    with mirrored_strategy.scope():
        double = build(name)
        double.compile("sgd", loss=dict.fromkeys(TASKS, "mse"))
    double.set_weights(start)
    double.fit(dataset, epochs=2, verbose=0)
    for v, w in zip(single.trainable_variables, double.trainable_variables, strict=True):
        np.testing.assert_allclose(v, w, atol=1e-5, err_msg=v.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["soft_sharing", "mmoe", "esmm", "depends_on"])
def test_export(name, tmp_path):
    model = build(name)
    x, _ = data()
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.serve(x)["b"], model(x)["b"], rtol=1e-5)
