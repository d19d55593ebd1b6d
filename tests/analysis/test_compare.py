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
from keras_mtl.analysis import compare
from keras_mtl.analysis.statistics import confidence_interval, sign_test


def build(depth=None, weighting="equal"):
    model = keras_mtl.hard_sharing(
        keras.Input((3,)),
        [layers.Dense(4, activation="relu")],
        {"a": layers.Dense(1), "b": layers.Dense(1, activation="sigmoid")},
        shared_depth=depth,
    )
    loss = {"a": "mse", "b": "binary_crossentropy"}
    model.compile("sgd", loss=loss, metrics={"b": ["accuracy"]}, weighting=weighting)
    return model


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 3)).astype("float32")
    y = {"a": x[:, 0], "b": (x[:, 1] > 0).astype("int32")}
    return (x[:32], {k: v[:32] for k, v in y.items()}), (x[32:], {k: v[32:] for k, v in y.items()})


def run(directory=None, candidates=("equal",), **options):
    train, test = make_data()
    arguments = {
        "single_task": lambda: build(0),
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
def report(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs"))


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
    half = stats.t.ppf(0.975, 1) * np.std(gains, ddof=1) / np.sqrt(2)
    assert entry["delta_m_interval"] == pytest.approx([np.mean(gains) - half, np.mean(gains) + half])


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


def test_learned_weightings_are_no_parameters_of_the_model():
    learned = run(candidates=("uncertainty",), seeds=[0])
    assert learned.runs["uncertainty"][0]["parameters"] == (3 * 4 + 4) + 2 * (4 + 1)


def test_finished_runs_are_used_again(report, tmp_path):
    run(tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.json")}
    assert len(files) == 2 * (2 + 1)
    again = run(tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.json")} == files
    assert again.delta_m("equal") == pytest.approx(report.delta_m("equal"), rel=1e-5)


def test_outputs(report, tmp_path):
    assert "delta_m" in str(report) and "| equal |" in report.to_markdown()
    report.to_json(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["seeds"] == [0, 1]
    report.plot(tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


def test_statistics():
    assert sign_test([1, 2, 3, 4, 5, 6]) == pytest.approx(2 * 0.5**6)
    assert sign_test([0.0]) == 1.0
    low, high = confidence_interval([1.0, 2.0, 3.0])
    assert (low + high) / 2 == pytest.approx(2.0) and high - 2.0 == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)


def test_refuses_bad_input(tmp_path):
    with pytest.raises(ValueError, match="share nothing"):
        run(single_task=build)
    with pytest.raises(ValueError, match="'score'"):
        run(metrics={"a": "score", "b": "accuracy"})
    with pytest.raises(ValueError, match=r"no \['c'\]"):
        run(metrics={"a": "loss", "c": "accuracy"})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="writable"):
        run(tmp_path / "file" / "runs")


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
    resumed = run(tmp_path / "killed").to_dict()
    for entry in (whole, resumed):
        for part in (entry["single_task"], *entry["candidates"].values()):
            del part["step_ms"], part["seconds"]
    assert resumed["candidates"]["equal"]["delta_m"] == pytest.approx(whole["candidates"]["equal"]["delta_m"], rel=1e-5)
