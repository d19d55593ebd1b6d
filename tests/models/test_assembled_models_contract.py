"""Models that are made of more than stages and heads: gaps in the labels, and back from a file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.examples import ASSEMBLED, draw_inputs, draw_labels

ROWS = 8


def data(model):
    """Inputs and labels; some of the first task's are missing."""
    rng = np.random.default_rng(0)
    x, y = draw_inputs(model, ROWS, rng), draw_labels(model, model.tasks, ROWS, rng)
    y[model.tasks[0]][:3] = np.nan
    return x, y


def compiled(model, **options):
    model.compile("sgd", loss="mse", missing="nan", **options)
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"weighting": "equal", "run_eagerly": True},  # graphs are in the contract table
        {"weighting": "uncertainty", "run_eagerly": True},
        {"weighting": "mgda", "run_eagerly": True},
    ],
    ids=lambda options: options["weighting"],
)
@pytest.mark.parametrize("name", ASSEMBLED)
def test_one_step_with_gaps_and_back_from_a_file(name, options, tmp_path):
    model = compiled(ASSEMBLED[name](), **options)
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


@pytest.mark.parametrize("name", ASSEMBLED)
def test_config_clone_seed_and_single_tasks(name):
    keras.utils.set_random_seed(7)
    model = ASSEMBLED[name]()
    keras.utils.set_random_seed(7)
    again = ASSEMBLED[name]()
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


@pytest.mark.parametrize("name", ASSEMBLED)
def test_gradients_reach_what_the_graph_says(name):
    model = ASSEMBLED[name]()
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
