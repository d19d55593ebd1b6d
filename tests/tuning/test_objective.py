"""The objective: its value by hand, and that no weight can change it."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_mtl.metrics import DeltaM
from keras_mtl.tuning import SharingHyperModel, objective
from keras_mtl.tuning.budget import quick_collections

BASELINES = {"a": {"mae": 2.0}, "b": {"accuracy": 0.8, "auc": 0.9}}
LOGS = {"val_a_mae": 1.5, "val_b_accuracy": 0.6, "val_b_auc": 0.99, "val_loss": 7.0, "loss": 3.0}


def test_delta_m_by_hand():
    # a: +25 %; b: mean of -25 % and +10 %.
    expected = (25.0 + (-25.0 + 10.0) / 2) / 2
    for baselines in (BASELINES, DeltaM(BASELINES)):
        found = objective(baselines)
        assert (found.name, found.direction) == ("val_delta_m", "max")
        assert found.get_value(LOGS) == pytest.approx(expected)
        assert found.get_value({**LOGS, "val_loss": 1e-9}) == found.get_value(LOGS)


def test_mean_of_normalized_metrics_by_hand():
    found = objective(metrics={"a": "mae", "b": ["accuracy", "auc"]}, ranges={"a": {"mae": (3.0, 1.0)}})
    assert found.name == "val_task_mean"
    assert found.get_value(LOGS) == pytest.approx((0.75 + (0.6 + 0.99) / 2) / 2)


def test_what_the_model_logs_itself_counts():
    assert objective(BASELINES).get_value({**LOGS, "val_delta_m": 3.0}) == 3.0


def test_missing_logs_are_named():
    found = objective(BASELINES)
    assert not found.has_value({"val_a_mae": 1.0})
    with pytest.raises(keras_tuner.errors.FatalValueError, match=r"\['val_b_accuracy', 'val_b_auc'\].*validation data"):
        found.get_value({"val_a_mae": 1.0})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "either `baselines` or `metrics`"),
        ({"baselines": BASELINES, "metrics": {"a": "mae"}}, "either `baselines` or `metrics`"),
        ({"baselines": {"a": {"mae": 0.0}}}, "should not be 0"),
        ({"baselines": {"a": {"wonder": 1.0}}}, "'wonder'"),
        ({"metrics": {"a": "mae"}}, "`ranges`.*'mae' of task 'a', where less is better"),
        ({"metrics": {"a": "mae"}, "ranges": {"a": {"mae": (0.0, 1.0)}}}, "less is better"),
        ({"metrics": {"a": []}}, "task 'a'"),
        ({"metrics": {"a": "accuracy"}, "ranges": {"z": {}}}, r"\['z'\]"),
    ],
)
def test_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        objective(**arguments)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Task b has noise that nobody can learn, so `val_loss` is least where b hardly counts.

    At random, what a search chooses by does not change what it tries.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype("float32")
    y = {"a": x[:, 0], "b": 3 * x[:, 1] + 2 * rng.normal(size=400).astype("float32")}
    data = (x[:200], {t: v[:200] for t, v in y.items()}), (x[200:], {t: v[200:] for t, v in y.items()})
    baselines = {"a": {"loss": 0.1}, "b": {"loss": 4.5}}
    hypermodel = SharingHyperModel(
        keras.Input((4,)),
        [keras.layers.Dense(8, activation="tanh")],
        {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
        compile={"loss": "mse", "delta_m": baselines},
        sharing={"depths": (1, 1)},
        weighting={"static": (1e-3, 1e1)},
        training={"optimizer": "sgd", "learning_rate": 0.05},
        seed=0,
    )
    trials = {}
    for name, by in (("loss", keras_tuner.Objective("val_loss", "min")), ("gain", objective(baselines))):
        directory = tmp_path_factory.mktemp(name)
        tuner = keras_tuner.RandomSearch(hypermodel, by, max_trials=4, seed=1, directory=directory)
        with quick_collections():
            tuner.search(*data[0], validation_data=data[1], epochs=3, batch_size=20, verbose=0)
        trials[name] = [t for _, t in sorted(tuner.oracle.trials.items())]
    return trials


def value_of(trial, log):
    return trial.metrics.get_best_value(log)


@pytest.mark.slow
def test_both_searches_saw_the_same_trials(found):
    weights = [[t.hyperparameters.get("static_weight/b") for t in trials] for trials in found.values()]
    assert weights[0] == weights[1] and max(weights[0]) > 1 > 0.1 > min(weights[0])


@pytest.mark.slow
def test_val_loss_takes_the_smallest_weight_and_does_not_learn_the_task(found):
    smallest = min(found["loss"], key=lambda t: t.hyperparameters.get("static_weight/b"))
    best = min(found["loss"], key=lambda t: t.score)
    assert best is smallest and value_of(best, "val_b_loss") > 2 * 4.5


@pytest.mark.slow
def test_delta_m_does_not(found):
    best = max(found["gain"], key=lambda t: t.score)
    assert best.hyperparameters.get("static_weight/b") > 0.1
    assert value_of(best, "val_b_loss") < 1.5 * 4.5
    by_loss = min(found["loss"], key=lambda t: t.score)
    assert best.score > value_of(by_loss, "val_delta_m") + 50
    assert best.score == pytest.approx(value_of(best, "val_delta_m"), rel=1e-5)
