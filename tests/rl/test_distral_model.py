"""The neural form of Distral as a model: what its policies are made of, and who shares what."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import rl

TASKS = ("a", "b")


def build(outputs=4, **options):
    stages = [keras.layers.Dense(6, activation="tanh", name="low"), keras.layers.Dense(5, name="high")]
    return rl.distral(keras.Input((3,)), stages, {task: keras.layers.Dense(outputs) for task in TASKS}, **options)


def data():
    return np.random.default_rng(0).normal(size=(8, 3)).astype("float32")


@pytest.mark.oracle
@pytest.mark.parametrize(("columns", "alpha"), [(2, 0.3), (1, 0.3), (2, 0.0)])
def test_logits_are_those_of_the_equation(columns, alpha):
    model, x = build(columns=columns, alpha=alpha), data()
    distilled = rl.distilled_policy(model)(x).numpy()
    stages = {layer.name: layer for layer in model.layers}
    for task in TASKS:
        own = x
        for name in (f"{task}_low", f"{task}_high", f"{task}_policy"):
            own = stages[name](own)
        own, output = own.numpy(), model(x)[task].numpy()
        added = alpha * distilled if columns == 2 else 0.0
        np.testing.assert_allclose(output[:, :3], own[:, :3] + added, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(output[:, 3], own[:, 3], rtol=1e-6)
        np.testing.assert_allclose(output[:, 4:], distilled, rtol=1e-5)


@pytest.mark.parametrize("shared_depth", [0, 1, 2])
def test_the_distilled_column_serves_all_and_others_their_task(shared_depth):
    model = build(shared_depth=shared_depth)
    low, high, actions = 3 * 6 + 6, 6 * 5 + 5, 3
    own = [0, high, low + high][2 - shared_depth] + 5 * 4 + 4
    for task in TASKS:
        assert sum(int(np.prod(v.shape)) for v in model.task_variables(task)) == own
        assert {v.path.split("/")[0] for v in model.task_variables(task)} == {task}
    shared = sum(int(np.prod(v.shape)) for v in model.shared_variables)
    assert shared == low + high + 5 * actions + actions
    assert {v.path.split("/")[0] for v in model.shared_variables} == {"shared"}


def test_copies_differ_and_one_seed_reproduces():
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = build()
        weights.append([np.array(v) for v in model.variables])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first, second)
    kernels = [np.array(v) for v in model.trainable_variables if v.path.endswith("low/kernel")]
    assert len(kernels) == 3
    assert all(np.abs(kernels[i] - kernels[j]).min() > 0 for i, j in ((0, 1), (0, 2), (1, 2)))


MODES = [{"jit_compile": False}, {"run_eagerly": True}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)]


@pytest.mark.parametrize("mode", MODES, ids=["graph", "eager", "xla"])
def test_a_step_and_back_from_a_file(mode, tmp_path):
    model, x = build(), data()
    y = {task: np.tile([[1.0, 0.5, 0.2, -1.0]], (8, 1)).astype("float32") for task in TASKS}
    y["b"][4:] = np.nan
    model.compile("sgd", loss=rl.DistralLoss(), missing={"b": "nan"}, **mode)
    before = [np.array(v) for v in model.trainable_variables]
    history = model.fit(x, y, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.any(old != np.array(v)) for old, v in zip(before, model.trainable_variables, strict=True))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.trainable_variables] == [v.path for v in model.trainable_variables]
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    np.testing.assert_allclose(rl.distilled_policy(loaded)(x), rl.distilled_policy(model)(x), rtol=1e-6)


def test_clones_task_models_and_pictures(tmp_path):
    import keras_mtl

    model, x = build(), data()
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(other(x)["b"], model(x)["b"], rtol=1e-6)
    np.testing.assert_allclose(model.task_model("a")(x), model(x)["a"], rtol=1e-6)
    lines = []
    model.sharing_summary(lines.append)
    assert "shared_distilled" in lines[0]
    keras_mtl.plot_sharing(model, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000


@pytest.mark.slow
def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model, x = build(), data()
    model.compile("sgd", loss=rl.DistralLoss())
    y = {task: np.tile([[1.0, 0.5, 0.2, -1.0]], (8, 1)).astype("float32") for task in TASKS}
    assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()
    assert all(bool(tf.reduce_all(tf.math.is_finite(v.value))) for v in model.variables)


def test_bad_input_is_told():
    with pytest.raises(ValueError, match=r"should have the same actions.* 3 actions of 'a', 2 actions of 'b'"):
        rl.distral(keras.Input((3,)), [keras.layers.Dense(4)], {"a": keras.layers.Dense(4), "b": keras.layers.Dense(3)})
    with pytest.raises(ValueError, match="head of task 'a' should give one output for each action"):
        build(outputs=1)
    with pytest.raises(ValueError, match=r"`columns` should be 1 or 2. Received: columns=3"):
        build(columns=3)
    with pytest.raises(ValueError, match="`shared_depth` should be an integer from 0 to 2"):
        build(shared_depth=3)
    with pytest.raises(ValueError, match="`alpha` should be from 0 to 1"):
        build(alpha=-0.1)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="Received: model 'plain' without a distilled policy"):
        rl.distilled_policy(plain)
