"""Models that are not made of stages and heads: every mode, gaps in the labels, and back from a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl import rl
from keras_mtl.layers import CombineModule, FindModule, MeasureModule, TransformModule

ROWS = 8


def distral():
    stages = [keras.layers.Dense(6, activation="tanh")]
    return rl.distral(keras.Input((3,), name="x"), stages, {task: keras.layers.Dense(3) for task in ("a", "b")})


def modules():
    kinds = {"find": FindModule(), "transform": TransformModule(), "and": CombineModule(), "answer": MeasureModule()}
    return keras_mtl.neural_module_network(
        keras.Input((3, 3, 4), name="image"),
        [keras.layers.Dense(5, activation="relu")],
        kinds,
        ["(is red blue)", "(is red (above blue))"],
        vocabulary=["red", "blue", "above"],
    )


def omninet(dropout=0.1):
    inputs = {
        "image": keras.Input((1, 4, 6), name="image"),
        "text": keras.Input((5,), dtype="int32", name="text"),
    }
    peripherals = {
        "image": keras.layers.Dense(8, activation="relu"),
        "text": keras.layers.Embedding(9, 8, mask_zero=True),
    }
    tasks = {
        "answer": keras_mtl.OmniTask({"image": "image", "text": "text"}, keras.layers.Dense(1)),
        "tags": keras_mtl.OmniTask({"text": "text"}, keras.layers.Dense(4), tokens=4, length=5),
    }
    options = {"encoder_blocks": 1, "decoder_blocks": 1, "heads": 2, "hidden": 8, "control": 3, "dropout": dropout}
    return keras_mtl.omninet(inputs, peripherals, tasks, **options)


MODELS = {"distral": distral, "modules": modules, "omninet": omninet}
MODES = {
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
    "steps": {"steps_per_execution": 2},
    "mixed_float16": {},
    "mixed_bfloat16": {},
}


def data(model, seed=0):
    """Inputs in the shapes of the model, and numbers for labels; some of the first task's are missing."""
    rng = np.random.default_rng(seed)

    def like(tensor):
        shape = (ROWS, *tensor.shape[1:])
        whole = "int" in str(tensor.dtype)
        return rng.integers(0, 3, shape).astype("int32") if whole else rng.normal(size=shape).astype("float32")

    x = keras.tree.map_structure(like, model.input)
    y = {task: rng.normal(size=(ROWS, *output.shape[1:])).astype("float32") for task, output in model.output.items()}
    y[model.tasks[0]][:3] = np.nan
    return x, y


def compiled(model, **options):
    model.compile("sgd", loss="mse", missing="nan", **options)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"weighting": "equal", "run_eagerly": True},  # graphs are among the modes below
        {"weighting": "uncertainty", "run_eagerly": True},
        {"weighting": "mgda", "run_eagerly": True},
    ],
    ids=lambda options: options["weighting"],
)
@pytest.mark.parametrize("name", MODELS)
def test_one_step_with_gaps_and_back_from_a_file(name, options, tmp_path):
    model = compiled(MODELS[name](), **options)
    x, y = data(model)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    logs = model.fit(x, y, batch_size=ROWS, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    still = [path for v in model.trainable_variables for path in [v.path] if (before[path] == np.array(v)).all()]
    assert not still
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.trainable_variables] == [v.path for v in model.trainable_variables]
    expected, found = model(x), loaded(x)
    for task in model.tasks:
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-6)
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_config_clone_seed_and_single_tasks(name):
    keras.utils.set_random_seed(7)
    model = MODELS[name]()
    keras.utils.set_random_seed(7)
    again = MODELS[name]()
    x, _ = data(model)
    for first, second in zip(model.variables, again.variables, strict=True):
        np.testing.assert_array_equal(first, second)
    for other in (type(model).from_config(model.get_config()), keras.models.clone_model(model)):
        other.set_weights(model.get_weights())
        for task in model.tasks:
            np.testing.assert_allclose(other(x)[task], model(x)[task], rtol=1e-5, atol=1e-6)
    for task in model.tasks:
        single = model.task_model(task)
        given = {key: x[key] for key in single.input} if isinstance(x, dict) else x
        np.testing.assert_allclose(single(given), model(x)[task], rtol=1e-5, atol=1e-6)
    owners = {v.path.split("/")[0] for v in model.trainable_variables}
    assert owners <= {"shared", *model.tasks}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_what_the_graph_says(name):
    model = MODELS[name]()
    x, _ = data(model)
    with tf.GradientTape(persistent=True) as tape:
        totals = {task: tf.reduce_sum(output**2) for task, output in model(x).items()}
    reached = {}
    for task in model.tasks:
        gradients = tape.gradient(totals[task], model.trainable_variables)
        reached[task] = {v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    first, second = model.tasks
    assert {v.path for v in model.shared_variables} == reached[first] & reached[second]
    assert {v.path for v in model.task_variables(first)} == reached[first] - reached[second]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MODELS)
def test_mode(name, mode):
    if mode.startswith("mixed"):
        keras.config.set_dtype_policy(mode)
    model = compiled(MODELS[name](), **MODES[mode])
    x, y = data(model)
    logs = model.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_saved_training_goes_on_as_if_it_had_not_stopped(name, tmp_path):
    model = omninet(dropout=0.0) if name == "omninet" else MODELS[name]()
    model.compile("adam", loss="mse", missing="nan")
    x, y = data(model)
    model.fit(x, y, batch_size=ROWS, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one in (model, loaded):
        one.fit(x, y, batch_size=ROWS, epochs=2, verbose=0)
    for first, second in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)
