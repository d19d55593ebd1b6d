"""The comparison: its numbers by hand, resuming after a kill, what it refuses."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers
from scipy import stats

import keras_mtl
from keras_mtl.analysis import Report, compare
from keras_mtl.analysis._plots import _limits
from keras_mtl.analysis._statistics import confidence_interval, sign_test


def build(depth=None, weighting="equal"):
    model = keras_mtl.hard_sharing(
        keras.Input((3,)),
        [layers.Dense(4, activation="relu")],
        {"a": layers.Dense(1), "b": layers.Dense(1, activation="sigmoid")},
        shared_depth=depth,
    )
    loss = {"a": "mse", "b": "binary_crossentropy"}
    # Eagerly, since tracing takes longer than so few steps.
    model.compile("sgd", loss=loss, metrics={"b": ["accuracy"]}, weighting=weighting, run_eagerly=True)
    return model


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 3)).astype("float32")
    y = {"a": x[:, 0], "b": (x[:, 1] > 0).astype("int32")}
    return (x[:32], {k: v[:32] for k, v in y.items()}), (x[32:], {k: v[32:] for k, v in y.items()})


def run(directory=None, candidates=("equal",), **options):
    train, test = make_data()
    arguments = {
        "baselines": lambda: build(0),
        "metrics": {"a": "loss", "b": "accuracy"},
        "test": test,
        "epochs": 1,
        "seeds": 2,
        "progress": False,
        "directory": directory,
        "batch_size": 16,
    }
    builders = {name: lambda name=name: build(weighting=name) for name in candidates}
    return compare(builders, train, **{**arguments, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def report(folder):
    return run(folder)


def test_numbers_by_hand(report):
    single = {
        task: np.mean([r["values"][f"{task}_{m}"] for r in report.baselines[task]])
        for task, m in (("a", "loss"), ("b", "accuracy"))
    }
    gains = []
    for r in report.runs["equal"]:
        gain_a = (single["a"] - r["values"]["a_loss"]) / single["a"]
        gain_b = (r["values"]["b_accuracy"] - single["b"]) / single["b"]
        gains.append(100 * (gain_a + gain_b) / 2)
    assert report.delta_m("equal") == pytest.approx(gains)
    entry = report.to_dict()["candidates"]["equal"]
    assert entry["delta_m_mean"] == pytest.approx(np.mean(gains))
    # The single-task models' own delta_m, by seed: its mean is 0, its spread widens the interval.
    alone_a = [1 - r["values"]["a_loss"] / single["a"] for r in report.baselines["a"]]
    alone_b = [r["values"]["b_accuracy"] / single["b"] - 1 for r in report.baselines["b"]]
    alone = 50 * (np.array(alone_a) + np.array(alone_b))
    low, high = stats.ttest_ind(gains, alone, equal_var=False).confidence_interval(0.95)
    assert entry["delta_m_interval"] == pytest.approx([low, high])
    assert entry["sign_test_p"] == pytest.approx(stats.binomtest(sum(g > 0 for g in gains), 2).pvalue)
    assert entry["seconds"] == pytest.approx(sum(r["seconds"] for r in report.runs["equal"]))
    steps = {task: np.mean([r["step_ms"] for r in runs]) for task, runs in report.baselines.items()}
    assert report.to_dict()["single_task"]["step_ms"] == pytest.approx(steps["a"] + steps["b"])


def test_a_run_is_what_fit_gives(report):
    train, test = make_data()
    keras.utils.set_random_seed(1)
    model = build()
    model.fit(*train, epochs=1, verbose=0, batch_size=16)
    values = model.evaluate(*test, return_dict=True, verbose=0, batch_size=16)
    assert report.runs["equal"][1]["values"]["a_loss"] == pytest.approx(values["a_loss"], rel=1e-6)


def test_single_task_models_train_alone(report):
    """The baseline is a column of its own: parameters of one column and head."""
    assert report.baselines["a"][0]["parameters"] == 3 * 4 + 4 + 4 + 1
    assert report.to_dict()["single_task"]["parameters"] == 2 * (3 * 4 + 4 + 4 + 1)


def test_single_task_models_of_the_first_candidate(report):
    """With hard sharing they are the same columns as those of a model that shares nothing."""
    taken = run(baselines="single_task", seeds=[0], metrics={"a": "loss"})
    assert taken.baselines["a"][0]["parameters"] == report.baselines["a"][0]["parameters"]
    train, test = make_data()
    keras.utils.set_random_seed(0)
    built = build()
    column = keras_mtl.MultiTaskModel(built.input, {"a": built.output["a"]})
    column.compile("sgd", loss={"a": "mse"}, run_eagerly=True)
    column.fit(train[0], {"a": train[1]["a"]}, verbose=0, batch_size=16)
    value = column.evaluate(test[0], {"a": test[1]["a"]}, verbose=0, return_dict=True)["a_loss"]
    assert taken.baselines["a"][0]["values"]["a_loss"] == pytest.approx(value, rel=1e-6)


def test_known_baselines(report):
    """Values in place of models: nothing is trained for them, and the interval takes them as exact."""
    known = run(baselines=report.baseline_means)
    assert known.delta_m("equal") == pytest.approx(report.delta_m("equal"), rel=1e-5)
    gains = known.delta_m("equal")
    low, high = stats.ttest_1samp(gains, 0.0).confidence_interval(0.95)
    assert known.interval("equal") == pytest.approx((low, high))
    assert "single-task" in str(known) and "were given" in known.to_markdown()


def test_a_task_with_a_sample_space_is_alone_in_it():
    """Its single-task model sees the labels inside alone, in training and in the test."""
    train, test = make_data()

    def conditional(depth=None):
        model = build(depth)
        loss = {"a": "mse", "b": "binary_crossentropy"}
        model.compile("sgd", loss=loss, metrics={"a": ["mae"]}, sample_space={"a": "b"}, run_eagerly=True)
        return model

    options = {"seeds": [0], "metrics": {"a": "mae", "b": "loss"}, "epochs": 1, "batch_size": 16, "progress": False}
    report = compare({"shared": conditional}, train, baselines=lambda: conditional(0), test=test, **options)
    found = report.baselines["a"][0]["values"]["a_mae"]
    keras.utils.set_random_seed(0)
    columns = conditional(0)
    inside, inside_test = train[1]["b"] == 1, test[1]["b"] == 1
    model = keras_mtl.MultiTaskModel(columns.input, {"a": columns.output["a"]})
    model.compile("sgd", loss={"a": "mse"}, metrics={"a": ["mae"]}, run_eagerly=True)
    weight = inside.astype("float32")
    model.fit(train[0], {"a": train[1]["a"]}, sample_weight={"a": weight}, verbose=0, batch_size=16)
    said = model.predict(test[0], verbose=0)["a"][:, 0]
    assert found == pytest.approx(np.abs(said - test[1]["a"])[inside_test].mean(), rel=1e-5)


def test_data_sets_and_tuples_agree(report):
    import tensorflow as tf

    train, test = make_data()
    as_sets = [tf.data.Dataset.from_tensor_slices(part).batch(16) for part in (train, test)]
    options = {"metrics": {"a": "loss"}, "seeds": [0], "candidates": ("equal",), "shuffle": False}
    sets = compare(
        {"equal": build}, as_sets[0], test=as_sets[1], epochs=1, progress=False, metrics={"a": "loss"}, seeds=[0]
    )
    assert sets.delta_m("equal") == pytest.approx(run(baselines="single_task", **options).delta_m("equal"), rel=1e-4)


def test_sample_weights():
    """Weights of 0 leave examples out, of the training as of the test."""
    (x, y), (x_test, y_test) = make_data()
    weight = {"a": (np.arange(32) % 2).astype("float32")}
    options = {"metrics": {"a": "loss"}, "test": (x_test, y_test), "epochs": 1, "seeds": [0], "progress": False}
    half = compare({"equal": build}, (x, y, weight), batch_size=32, **options).baselines["a"][0]["values"]
    odd = (x[1::2], {"a": y["a"][1::2], "b": y["b"][1::2]})
    assert half == pytest.approx(
        compare({"equal": build}, odd, batch_size=32, **options).baselines["a"][0]["values"], rel=1e-5
    )


def test_negative_transfer_by_hand():
    def runs(values):
        return [{"values": {"a_accuracy": a, "b_loss": b}} for a, b in values]

    alone = {"a": runs([(0.78, 0), (0.82, 0)]), "b": runs([(0, 1.9), (0, 2.1)])}
    # a loses a little in every seed, within the spread; b loses much in every seed.
    candidates = {"one": runs([(0.79, 3.0), (0.795, 2.5)]), "other": runs([(0.5, 3.0), (0.81, 1.9)])}
    report = Report(candidates, alone, {"a": ["accuracy"], "b": ["loss"]}, [0, 1])
    assert report.negative_transfer("one") == ["b"] and report.negative_transfer("other") == []
    assert report.baseline_gains["b"] == pytest.approx([5.0, -5.0])
    assert report.gains("one", "b") == pytest.approx([-50.0, -25.0])


def test_a_direction_by_metric_holds_for_tasks_of_several_words(capsys):
    alone = {"days_in_hospital": {"score": 2.0}}
    runs = {"one": [{"values": {"days_in_hospital_score": 3.0}, "parameters": 1, "step_ms": 1.0, "seconds": 1.0}]}
    report = Report(runs, alone, {"days_in_hospital": ["score"]}, [0], directions={"score": "max"})
    report.print()
    assert "+50.00" in capsys.readouterr().out and "days_in_hospital_score ↑" in report.to_markdown()


def test_learned_weightings_are_no_parameters_of_the_model():
    learned = run(candidates=("uncertainty",), seeds=[0])
    assert learned.runs["uncertainty"][0]["parameters"] == (3 * 4 + 4) + 2 * (4 + 1)


def test_finished_runs_are_used_again(report, folder, capsys):
    files = {p: p.stat().st_mtime_ns for p in folder.glob("*.json")}
    assert len(files) == 2 * (2 + 1)
    again = run(folder, progress=True)
    assert "equal, seed 1" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.json")} == files
    assert again.delta_m("equal") == pytest.approx(report.delta_m("equal"), rel=1e-5)


def test_outputs(report, tmp_path, capsys):
    report.print()
    assert "delta_m" in capsys.readouterr().out
    assert "delta_m" in str(report) and "| equal |" in report.to_markdown()
    report.to_json(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["seeds"] == [0, 1]
    report.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000
    one = run(seeds=[0])
    assert (
        one.interval("equal") is None and json.loads(one.to_json())["candidates"]["equal"]["delta_m_interval"] is None
    )


def test_picture_of_gains_holds_all_means_and_cuts_what_is_many_times_as_wide():
    low, high = _limits([-1.0, 3.0], [-2.0, 4.0])
    assert -2.5 < low < -2.0 and 4.0 < high < 4.5
    low, high = _limits([-1.0, 3.0], [-80.0, 90.0])  # two seeds: the means lie 4 apart, 6 more on both sides are shown
    assert (low, high) == pytest.approx((-7 - 0.06 * 16, 9 + 0.06 * 16))
    assert _limits([0.0], [])[0] < 0 < _limits([0.0], [])[1]  # nothing gained, one seed


def test_statistics():
    assert sign_test([1, 2, 3, 4, 5, 6]) == pytest.approx(2 * 0.5**6)
    assert sign_test([0.0]) == 1.0
    assert confidence_interval([1.0]) is None and confidence_interval([1.0, 2.0], [0.0]) is None
    assert confidence_interval([2.0, 2.0], [1.0, 1.0]) == (1.0, 1.0)
    welch = stats.ttest_ind([1.0, 2.0, 4.0], [0.0, 9.0], equal_var=False).confidence_interval(0.95)
    assert confidence_interval([1.0, 2.0, 4.0], [0.0, 9.0]) == pytest.approx(tuple(welch))
    low, high = confidence_interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2.0) and high - 2.0 == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)


def test_refuses_bad_input(tmp_path):
    with pytest.raises(ValueError, match="share nothing"):
        run(baselines=build)
    with pytest.raises(ValueError, match="'score'"):
        run(metrics={"a": "score", "b": "accuracy"})
    with pytest.raises(ValueError, match=r"no \['c'\]"):
        run(metrics={"a": "loss", "c": "accuracy"})
    with pytest.raises(ValueError, match=r"no \['b_auc'\]"):
        run(metrics={"a": "loss", "b": "auc"})
    with pytest.raises(ValueError, match=r"none for \['b accuracy'\]"):
        run(baselines={"a": {"loss": 1.0}})
    with pytest.raises(ValueError, match="'single_task', a function or a dict"):
        run(baselines="first_epoch")
    with pytest.raises(ValueError, match="should not be empty"):
        run(seeds=0)
    columns = keras_mtl.cross_stitch(keras.Input((3,)), [layers.Dense(4)], {"a": layers.Dense(1), "b": layers.Dense(1)})
    columns.compile("sgd", loss="mse", run_eagerly=True)
    train, test = make_data()
    options = {"metrics": {"a": "loss", "b": "loss"}, "test": test, "progress": False, "epochs": 1, "seeds": [0]}
    with pytest.raises(ValueError, match=r"task 'a' is tied to layers of \['b'\]"):
        compare({"units": lambda: columns}, train, **options)
    with pytest.raises(ValueError, match="new model each time"):
        compare({"units": lambda: columns}, train, baselines=lambda: build(0), **{**options, "seeds": [0, 1]})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="writable"):
        run(tmp_path / "file" / "runs")
    if os.path.isdir("/proc/self/fd"):  # a folder that is there, and that not even root may write to
        with pytest.raises(ValueError, match=r"`directory` should be writable.*/proc/self/fd"):
            run("/proc/self/fd")


@pytest.mark.slow
def test_killed_comparison_goes_on(tmp_path):
    """kill -9 in the middle, run again: the same table as without the kill."""
    whole = run(tmp_path / "whole").to_dict()
    code = f"""
import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import test_compare
test_compare.run({str(tmp_path / "killed")!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    while process.poll() is None and len(list((tmp_path / "killed").glob("*.json"))) < 2:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= len(list((tmp_path / "killed").glob("*.json"))) < 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.json")}
    resumed = run(tmp_path / "killed").to_dict()
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
    for entry in (whole, resumed):
        for part in (entry["single_task"], *entry["candidates"].values()):
            del part["step_ms"], part["seconds"]
    assert _rounded(resumed) == _rounded(whole)


def _rounded(entry):
    """Numbers to five digits: another process may add in another order."""
    return json.loads(json.dumps(entry), parse_float=lambda text: float(f"{float(text):.4e}"))


def _never(model):
    model.fit = lambda *args, **options: pytest.fail("trained")
    return model


def test_functions_that_give_no_new_model_are_refused_before_any_training():
    """One model each time, one layer each time, one layer in two candidates."""

    def model(stage):
        heads = {"a": layers.Dense(1), "b": layers.Dense(1)}
        made = keras_mtl.hard_sharing(keras.Input((3,)), [stage], heads)
        made.compile("sgd", loss="mse", run_eagerly=True)
        return _never(made)

    one, layer, data = model(layers.Dense(2)), layers.Dense(2), (np.ones((4, 3)), {t: np.ones((4, 1)) for t in "ab"})
    options = {"metrics": {"a": "loss"}, "test": data, "epochs": 1, "seeds": 1, "progress": False}
    for build in (lambda: one, lambda: model(layer)):
        with pytest.raises(ValueError, match=r"Candidate 'eq' should build a new model each time.*'shared/"):
            compare({"eq": build}, data, **options)
    pair = [model(layer), model(layer)]
    with pytest.raises(ValueError, match="Candidate '2' should build"):
        compare(
            {"1": lambda: model(layers.Dense(2)) if len(pair) < 2 else pair.pop(), "2": lambda: pair[0]},
            data,
            **options,
        )
    with pytest.raises(ValueError, match="`baselines` should build a new model"):
        compare({"new": lambda: model(layers.Dense(2))}, data, baselines=lambda: one, **options)
    frozen = layers.Dense(2, trainable=False)
    check_frozen = {"eq": lambda: model(frozen)}
    with pytest.raises(pytest.fail.Exception):  # trained
        compare(check_frozen, data, **options, baselines={"a": {"loss": 1.0}})


def test_callbacks_by_name_and_seed_look_on_and_are_no_part_of_a_run(tmp_path):
    """Each training has its own; one that is read has none, and which they are does not make it another run."""
    asked, began = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            began.append(self.model.tasks)

    def watch(name, seed):
        asked.append((name, seed))
        return [Watch()]

    first = run(tmp_path, callbacks=watch)
    assert asked == [(name, seed) for seed in range(2) for name in ("single-task a", "single-task b", "equal")]
    assert began == [("a",), ("b",), ("a", "b")] * 2
    again = run(tmp_path, callbacks=lambda name, seed: asked.append(name))
    assert len(asked) == 6 and again.to_dict() == first.to_dict()
