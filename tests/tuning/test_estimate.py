"""How long a search takes: its work counted by keras-tuner itself, and the clock."""

import time
import types

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.tuning import SearchEstimate, SharingHyperModel, budget, budget_search, estimate, estimates, objective
from keras_mtl.tuning.estimates import _halving


def made(trials=10, **changes):
    new = tuple([True, True] + [False] * (trials - 2))
    values = {"new_structures": new, "epochs": 2.0 * trials, "build_seconds": 0.5, "trace_seconds": 3.0}
    return SearchEstimate(**{**values, "epoch_seconds": 1.0, **changes})


@pytest.mark.parametrize(("most", "factor"), [(1, 3), (2, 2), (4, 3), (9, 3), (10, 3), (27, 3), (8, 2)])
def test_work_of_hyperband_is_what_keras_tuner_does(most, factor):
    """The oracle itself, asked for trials until it stops."""
    oracle = keras_tuner.oracles.HyperbandOracle(
        keras_tuner.Objective("score", "max"), max_epochs=most, factor=factor, seed=0
    )
    oracle._display.verbose = 0
    oracle.hyperparameters.Float("x", 0.0, 1.0)
    oracle.save = oracle._save_trial = lambda *_: None
    trials = drawn = epochs = 0
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        values = trial.hyperparameters.values
        trials += 1
        drawn += values["tuner/round"] == 0
        epochs += values["tuner/epochs"] - values["tuner/initial_epoch"]
        oracle.update_trial(trial.trial_id, {"score": values["x"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert _halving(most, factor) == (trials, drawn, epochs)


def test_sums_by_hand():
    assert made().seconds == 10 * 0.5 + 2 * 3.0 + 20 * 1.0
    assert made().first(3).seconds == 3 * 0.5 + 2 * 3.0 + 6 * 1.0
    assert made().within(13.5).trials == 3 and made().within(13.4).trials == 2
    assert made().within(0.1).trials == 1 and made().within(1e9).trials == 10
    assert str(made(40)) == (
        "40 trials, 80 epochs: about 1 min 46 s (0.5 s to build a model, 3.0 s to trace each of 2 structures, "
        "1.00 s an epoch)"
    )


def make_search(directory, max_trials=6, **options):
    hypermodel = SharingHyperModel(
        keras.Input((3,)),
        [keras.layers.Dense(4), keras.layers.Dense(4)],
        {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
        compile={"loss": "mse"},
        **options,
    )
    by = objective({"a": {"loss": 1.0}, "b": {"loss": 1.0}})
    return keras_tuner.RandomSearch(hypermodel, by, max_trials=max_trials, directory=directory, seed=0)


def make_data(rows):
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype("float32")
    return x, {"a": x[:, 0], "b": x[:, 1]}


def test_a_search_is_measured_and_left_as_it_was(tmp_path):
    tuner = make_search(tmp_path)
    x, y = make_data(64)
    found = estimate(tuner, x, y, epochs=3, batch_size=8, validation_data=(x, y), samples=1)
    assert found.trials == 6 and found.epochs == 18 and 1 <= found.structures <= 3
    assert min(found.build_seconds, found.trace_seconds, found.epoch_seconds) > 0
    assert not tuner.oracle.trials and not list(tmp_path.glob("*/trial_*"))


@pytest.mark.parametrize(
    ("given", "batch_size"),
    [
        ({}, 32),
        ({"batch_size": 8}, 8),
        ({"steps_per_epoch": 5}, 20),
        ({"steps_per_epoch": 5, "validation_split": 0.2}, 16),
    ],
)
def test_few_steps_have_the_batches_of_the_search(given, batch_size):
    """Keras makes one step of all arrays, unless it is told the size."""
    calls = []

    class Model:
        steps_per_execution = 1

        def fit(self, *args, **options):
            calls.append(options)

    hypermodel = types.SimpleNamespace(build=lambda hp: Model())
    estimates._measure(hypermodel, None, make_data(100), given)
    assert [call["batch_size"] for call in calls] == 3 * [batch_size]
    assert [call["steps_per_epoch"] for call in calls][:2] == [1, 1]
    calls.clear()
    batches = tf.data.Dataset.from_tensor_slices(make_data(100)).batch(10)
    estimates._measure(hypermodel, None, (batches,), {})
    endless = (batch for batch in batches.repeat())
    estimates._measure(hypermodel, None, (endless,), {"steps_per_epoch": 10})
    assert len(calls) == 6 and not [call for call in calls if "batch_size" in call]  # they have one


def test_a_search_without_end_is_refused(tmp_path):
    hypermodel = make_search(tmp_path).hypermodel
    tuner = keras_tuner.GridSearch(hypermodel, objective({"a": {"loss": 1.0}}), directory=tmp_path)
    with pytest.raises(ValueError, match="`max_trials`"):
        estimate(tuner, *make_data(8))
    with pytest.raises(ValueError, match="`minutes` should be positive"):
        budget_search(hypermodel, objective({"a": {"loss": 1.0}}), *make_data(8), minutes=0)


def test_a_plan_counts_for_the_search_it_was_made_for(tmp_path):
    plan = tmp_path / "plan.json"
    assert budget._planned(plan, "k") is None
    plan.write_text('{"trials": 4, "key": "k"}')
    assert budget._planned(plan, "k") == 4 and budget._planned(plan, "other") is None
    for damage in ("", "null", '{"trials": 4'):
        plan.write_text(damage)
        with pytest.warns(UserWarning, match="plan.json' cannot be used, and trials are planned anew"):
            assert budget._planned(plan, "k") is None


@pytest.mark.slow
def test_seed_0_is_a_seed(tmp_path):
    """keras-tuner draws another one in its place."""
    x, y = make_data(16)
    options = {"minutes": 1, "epochs": 1, "max_trials": 2, "validation_data": (x, y), "verbose": 0, "seed": 0}
    by = objective({"a": {"loss": 1.0}, "b": {"loss": 1.0}})
    found = []
    for name in ("one", "two"):
        hypermodel = make_search(tmp_path / f"other{name}").hypermodel
        tuner = budget_search(hypermodel, by, x, y, directory=tmp_path / name, **options)
        found.append([trial.hyperparameters.values for _, trial in sorted(tuner.oracle.trials.items())])
    assert len(found[0]) == 2 and found[0] == found[1]


@pytest.mark.slow
def test_the_estimate_is_about_right(tmp_path, monkeypatch):
    """Within a factor of 2.5. Both are CPU time: by the clock, other jobs between the two would count as an error."""
    monkeypatch.setattr(estimates, "time", types.SimpleNamespace(perf_counter=time.process_time))
    tuner = make_search(tmp_path, max_trials=8)
    x, y = make_data(4000)
    options = {"epochs": 4, "batch_size": 16, "validation_data": (x, y), "verbose": 0}
    expected = estimate(tuner, x, y, **options).seconds
    start = time.process_time()
    tuner.search(x, y, **options)
    assert 0.4 < (time.process_time() - start) / expected < 2.5


@pytest.mark.slow
def test_a_budget_sets_the_trials_and_a_second_call_keeps_them(tmp_path, capsys):
    x, y = make_data(200)
    hypermodel = make_search(tmp_path / "other").hypermodel
    by = objective({"a": {"loss": 1.0}, "b": {"loss": 1.0}})
    options = {"minutes": 0.2, "epochs": 2, "max_trials": 5, "directory": tmp_path, "validation_data": (x, y)}
    trials = budget_search(hypermodel, by, x, y, **options).oracle.trials
    assert 1 <= len(trials) <= 5
    said = capsys.readouterr().out.replace("\n", " ")
    assert f"{len(trials)} trials, {2 * len(trials)} epochs: about" in said and "Given: 0.2 minutes." in said
    again = budget_search(hypermodel, by, x, y, **{**options, "minutes": 100})
    assert len(again.oracle.trials) == len(trials)
