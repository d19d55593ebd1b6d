"""Searches that are killed, in a trial and between keras-tuner's files."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras_tuner
import pytest

from tests.tuning.searches import make, random_search, search

ROOT = pathlib.Path(__file__).parents[2]


def test_a_kill_while_a_file_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    """keras-tuner's own writer stops in the middle; by itself it has emptied the file by then."""
    from keras_tuner.src import backend, utils

    make()
    path = tmp_path / "trial.json"
    utils.save_json(str(path), {"trials": 1})

    @contextlib.contextmanager
    def stops(name, mode):
        with open(name, mode) as file:
            yield file
            file.flush()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backend.io, "File", stops)
        with pytest.raises(KeyboardInterrupt):
            utils.save_json(str(path), {"trials": 2})
    assert utils.load_json(str(path)) == {"trials": 1}
    utils.save_json(str(path), {"trials": 3})
    assert utils.load_json(str(path)) == {"trials": 3} and [p.name for p in tmp_path.iterdir()] == ["trial.json"]


def make_oracle(directory):
    """keras-tuner's own, without models."""
    oracle = keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("score", "max"), max_trials=4, seed=1)
    oracle._set_project_dir(directory, "lost")
    oracle._display.verbose = 0
    oracle.hyperparameters.Float("x", 0.0, 1.0)
    return oracle


def finish(oracle):
    """Takes trials until there are no more. Returns their values by their names."""
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        oracle.update_trial(trial.trial_id, {"score": trial.hyperparameters.values["x"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
    return {name: trial.hyperparameters.values["x"] for name, trial in oracle.trials.items()}


def test_a_trial_of_which_only_its_own_file_knows_is_handed_out_again(tmp_path):
    """A kill between the two files of a new trial."""
    make()
    whole = finish(make_oracle(tmp_path / "whole"))
    stopped = make_oracle(tmp_path / "stopped")
    first = stopped.create_trial("tuner")
    stopped.update_trial(first.trial_id, {"score": 0.5})
    first.status = "COMPLETED"
    stopped.end_trial(first)
    file = tmp_path / "stopped" / "lost" / "oracle.json"
    before = file.read_text()
    second = stopped.create_trial("tuner")
    file.write_text(before)

    again = make_oracle(tmp_path / "stopped")
    again.reload()
    assert again.trials[second.trial_id].status == "RUNNING"
    assert finish(again) == whole and again.start_order == sorted(whole)


@pytest.mark.parametrize("content", ["", "{", "null", "{}", "\x80\x81", None], ids=str)
@pytest.mark.parametrize("name", ["oracle.json", "trial_0/trial.json"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    make()
    oracle = make_oracle(tmp_path)
    finish(oracle)
    file = tmp_path / "lost" / name
    if content is None:  # another one's
        other = {"oracle.json": "trial_1/trial.json", "trial_0/trial.json": "trial_1/trial.json"}[name]
        file.write_bytes((tmp_path / "lost" / other).read_bytes())
    else:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"keras-tuner wrote. Received: '.*{name}'.*`overwrite=True`"):
        make_oracle(tmp_path).reload()


def make_search(directory, max_trials=5):
    """What the killed process and its successor run."""
    return random_search(directory, make(sharing={"depths": (0, 2)}), max_trials, project_name="killed")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The use case of calling:DeprecationWarning")  # keras-tuner, of a finished trial
def test_a_killed_search_goes_on(tmp_path):
    """kill -9 in a trial: what was finished is not trained again, what was not is, and nothing is missing."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tests.tuning import test_killed_searches as t
t.search(t.make_search({str(tmp_path)!r}), epochs=3)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ})
    project = tmp_path / "killed"

    def completed():
        texts = {path.parent: path.read_text() for path in sorted(project.glob("trial_*/trial.json"))}
        return [folder for folder, text in texts.items() if text and json.loads(text)["status"] == "COMPLETED"]

    def trained(folders):
        return {folder: (folder / "checkpoint.weights.h5").stat().st_mtime_ns for folder in folders}

    while process.poll() is None and len(completed()) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = completed()
    before = trained(finished)
    assert 2 <= len(finished) < 5
    trials = search(make_search(tmp_path), epochs=3)
    assert [t.trial_id for t in trials] == list("01234") and {t.status for t in trials} == {"COMPLETED"}
    assert trained(finished) == before
    assert len({json.dumps(t.hyperparameters.values, sort_keys=True) for t in trials}) == 5
    whole = search(random_search(tmp_path, make(sharing={"depths": (0, 2)}), 5, project_name="whole"), epochs=3)
    assert [t.score for t in trials] == pytest.approx([t.score for t in whole], rel=1e-5)

    # A search that is over is not trained again either, though keras-tuner starts its last trial once more.
    after = trained(project.glob("trial_*"))
    again = search(make_search(tmp_path), epochs=3)
    assert trained(project.glob("trial_*")) == after
    assert [t.score for t in again] == [t.score for t in trials] and {t.status for t in again} == {"COMPLETED"}
