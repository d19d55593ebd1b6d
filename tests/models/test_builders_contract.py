"""Every builder trains with each kind of weighting, and comes back from a file as it was."""

import keras
import numpy as np
import pytest

from tests.models.examples import BUILDERS, HEADS, WITHOUT_SHARED, build

LOSS = dict.fromkeys(HEADS, "mse")
COMPILE = [
    {"weighting": "equal"},  # in a graph; the others eagerly, since tracing is what takes the time
    {"weighting": "uncertainty"},
    {"weighting": "mgda", "gradients": "parameters"},
    {"weighting": "mgda", "gradients": "features"},
]


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)).astype("float32")
    return x, {task: rng.normal(size=(8, 1)).astype("float32") for task in HEADS}


def paths(model):
    return [v.path for v in model.trainable_variables]


def compile_id(options):
    return "-".join(options.values())


@pytest.mark.parametrize("options", COMPILE, ids=compile_id)
@pytest.mark.parametrize("name", BUILDERS)
def test_one_step_and_back_from_a_file(name, options, tmp_path):
    model = build(name)
    if name in WITHOUT_SHARED and options["weighting"] == "mgda":
        with pytest.raises(ValueError, match="two tasks or more share"):
            model.compile("adam", loss=LOSS, **options)
        return
    eager = options["weighting"] != "equal"
    model.compile("sgd", loss=LOSS, run_eagerly=eager, **options)
    x, y = data()
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    history = model.fit(x, y, batch_size=8, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    moved = [v.path for v in model.trainable_variables if np.any(before[v.path] != keras.ops.convert_to_numpy(v))]
    assert len(moved) == len(before)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected, found = model(x), loaded(x)
    for task in HEADS:
        np.testing.assert_array_equal(found[task], expected[task])
    assert paths(loaded) == paths(model)
    if eager:
        assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_config_and_clone_keep_the_model(name):
    model = build(name)
    again = type(model).from_config(model.get_config())
    cloned = keras.models.clone_model(model)
    x, _ = data()
    for other in (again, cloned):
        assert paths(other) == paths(model)
        other.set_weights(model.get_weights())
        for task in HEADS:
            np.testing.assert_allclose(other(x)[task], model(x)[task], rtol=1e-6)
        np.testing.assert_allclose([float(v) for v in other.losses], [float(v) for v in model.losses], rtol=1e-5)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_seed_reproduces_and_copies_differ(name):
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        models.append(build(name))
    for first, second in zip(*(m.variables for m in models), strict=True):
        np.testing.assert_array_equal(first, second)
    kernels = [
        keras.ops.convert_to_numpy(v)
        for v in models[0].trainable_variables
        if v.path.endswith(("low/kernel", "high/kernel"))
    ]
    for i, first in enumerate(kernels):
        for second in kernels[i + 1 :]:
            assert first.shape != second.shape or np.abs(first - second).min() > 0


@pytest.mark.parametrize("name", BUILDERS)
def test_gradients_reach_what_the_graph_says(name):
    import tensorflow as tf

    model = build(name)
    x, _ = data()
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(x, training=True)  # outside training a drawn choice is the likeliest, which has no gradient
        totals = {task: tf.reduce_sum(outputs[task]) for task in HEADS}
    reached = {}
    for task in HEADS:
        gradients = tape.gradient(totals[task], model.trainable_variables)
        reached[task] = {v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    assert {v.path for v in model.sharing.shared_variables(HEADS)} == reached["left"] & reached["right"]
    for task, other in (HEADS, HEADS[::-1]):
        assert {v.path for v in model.sharing.task_variables(task, HEADS)} == reached[task] - reached[other]
    if model.tasks == HEADS:  # no output beside the tasks'
        assert {v.path for v in model.shared_variables} == reached["left"] & reached["right"]
        assert {v.path for v in model.task_variables("left")} == reached["left"] - reached["right"]


@pytest.mark.parametrize("name", BUILDERS)
def test_paths_begin_with_their_owner(name):
    owners = {v.path.split("/")[0] for v in build(name).trainable_variables}
    assert owners <= {"shared", *HEADS}


@pytest.mark.parametrize("name", BUILDERS)
def test_xla_can_read_all_variables_on_a_gpu(name):
    assert not [v.path for v in build(name).variables if v.dtype == "int32"]


@pytest.mark.parametrize("name", BUILDERS)
def test_single_task_model_gives_the_same(name):
    model = build(name)
    x, _ = data()
    np.testing.assert_allclose(model.task_model("right")(x), model(x)["right"], rtol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_coefficients_and_summary(name):
    model = build(name)
    for key, values in model.sharing_coefficients(data()[0]).items():
        assert isinstance(values, np.ndarray) and np.isfinite(values).all(), key
        if "gate" in key and name != "dselect_k":
            assert values.sum() == pytest.approx(1, rel=1e-5)
    lines = []
    model.sharing_summary(lines.append)
    assert all(task in lines[0] for task in HEADS)
