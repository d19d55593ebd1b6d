"""Every builder trains with each kind of weighting, and comes back from a file as it was."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.examples import ASSEMBLED, EVERY, build, draw_inputs, draw_labels, refusal, tasks_of
from tests.rows import by_default

ROWS = 8
COMPILE = [
    {"weighting": "equal"},
    {"weighting": "uncertainty"},
    {"weighting": "mgda", "gradients": "parameters"},
    {"weighting": "mgda", "gradients": "features"},
]


def data(model, tasks):
    """Inputs and labels; some of the first task's are missing."""
    rng = np.random.default_rng(0)
    x, y = draw_inputs(model, ROWS, rng), draw_labels(model, tasks, ROWS, rng)
    y[tasks[0]][:3] = np.nan
    return x, y


@functools.cache
def built(name):
    """A model for tests that look and change nothing."""
    return build(name)


def inputs(model):
    return draw_inputs(model, ROWS, np.random.default_rng(0))


def paths(model):
    return [v.path for v in model.trainable_variables]


# Where gradients are one weighted sum, a second weighting is the same step; and where task gradients are taken is what
# the contract table is about: one builder of each kind shows that here, and each kind of refusal has one.
FEW = [
    ("own_inputs", COMPILE[1]),
    ("soft_sharing", COMPILE[2]),
    ("cross_stitch", COMPILE[2]),
    ("own_inputs", COMPILE[2]),
    ("mmoe", COMPILE[3]),
    ("distral", COMPILE[3]),
    ("own_inputs", COMPILE[3]),
    ("adapters", COMPILE[3]),
]


@pytest.mark.parametrize(
    ("name", "options"),
    by_default(
        [*[(name, COMPILE[0]) for name in EVERY], *FEW],
        [(name, options) for name in EVERY for options in COMPILE],
    ),
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)
def test_one_step_and_back_from_a_file(name, options, tmp_path):
    model, tasks = build(name), tasks_of(name)
    # Tracing is what takes the time: one graph of the quick ones.
    eager = options["weighting"] != "equal" or name in ASSEMBLED
    compiling = {"optimizer": "sgd", "loss": dict.fromkeys(tasks, "mse"), "missing": "nan", "run_eagerly": eager}
    if says := refusal(name, options["weighting"], options.get("gradients", "parameters")):
        with pytest.raises(ValueError, match=says):
            model.compile(**compiling, **options)
        return
    model.compile(**compiling, **options)
    x, y = data(model, tasks)
    before = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    # What is behind a factor that starts as 0 moves in the second step.
    for _ in range(2 if "adapters" in name else 1):
        assert np.isfinite(model.train_on_batch(x, y, return_dict=True)["loss"])
    after = {v.path: keras.ops.convert_to_numpy(v) for v in model.trainable_variables}
    assert not [path for path, value in before.items() if np.array_equal(value, after[path])]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected, found = model(x), loaded(x)
    for task in tasks:
        np.testing.assert_array_equal(found[task], expected[task])
    assert paths(loaded) == paths(model)
    if eager:
        assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_config_and_clone_keep_the_model(name):
    model = built(name)
    again = type(model).from_config(model.get_config())
    cloned = keras.models.clone_model(model)
    x = inputs(model)
    expected, losses = model(x), [float(v) for v in model.losses]
    for other in (again, cloned):
        assert paths(other) == paths(model)
        other.set_weights(model.get_weights())
        found = other(x)
        for task in model.tasks:
            np.testing.assert_allclose(found[task], expected[task], rtol=1e-6)
        np.testing.assert_allclose([float(v) for v in other.losses], losses, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
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


@pytest.mark.parametrize("name", EVERY)
def test_gradients_reach_what_the_graph_says(name):
    model, tasks = built(name), tasks_of(name)
    with tf.GradientTape(persistent=True) as tape:
        # Outside training a drawn choice is the likeliest, which has no gradient.
        outputs = model(inputs(model), training=True)
        totals = {task: tf.reduce_sum(outputs[task] ** 2) for task in tasks}
    reached = {}
    for task in tasks:
        gradients = tape.gradient(totals[task], model.trainable_variables)
        reached[task] = {v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is not None}
    first, second = tasks
    assert {v.path for v in model.sharing.shared_variables(tasks)} == reached[first] & reached[second]
    for task, other in (tasks, tasks[::-1]):
        assert {v.path for v in model.sharing.task_variables(task, tasks)} == reached[task] - reached[other]
    if model.tasks == tasks:  # no output beside the tasks'
        assert {v.path for v in model.shared_variables} == reached[first] & reached[second]
        assert {v.path for v in model.task_variables(first)} == reached[first] - reached[second]


@pytest.mark.parametrize("name", EVERY)
def test_paths_begin_with_their_owner(name):
    owners = {v.path.split("/")[0] for v in built(name).trainable_variables}
    assert owners <= {"shared", *tasks_of(name)}


@pytest.mark.parametrize("name", EVERY)
def test_xla_can_read_all_variables_on_a_gpu(name):
    assert not [v.path for v in built(name).variables if v.dtype == "int32"]


@pytest.mark.parametrize("name", EVERY)
def test_single_task_models_give_the_same(name):
    model = built(name)
    x = inputs(model)
    expected = model(x)
    for task in model.tasks:
        single = model.task_model(task)
        given = {key: x[key] for key in single.input} if isinstance(x, dict) else x
        np.testing.assert_allclose(single(given), expected[task], rtol=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_coefficients_and_summary(name):
    model = built(name)
    for key, values in model.sharing_coefficients(inputs(model)).items():
        assert isinstance(values, np.ndarray) and np.isfinite(values).all(), key
        if "gate" in key and name != "dselect_k":
            assert values.sum() == pytest.approx(1, rel=1e-5)
    lines = []
    model.sharing_summary(lines.append)
    assert all(task in lines[0] for task in tasks_of(name))
