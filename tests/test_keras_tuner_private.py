"""Each private member of keras-tuner that is used does what `_keras_tuner_private` needs of it."""

import functools

import keras_tuner
import pytest

from keras_mtl import _keras_tuner_private as private
from tests import upstream

rests_on = functools.partial(upstream.rests_on, "keras-tuner")


class HyperModel(keras_tuner.HyperModel):
    def build(self, hp):
        hp.Float("x", 0.0, 1.0)


class Tuner(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        return trial.hyperparameters.get("x")


def make(directory):
    return Tuner(HyperModel(), max_trials=1, directory=directory, project_name="p")


@pytest.fixture
def unwrapped(monkeypatch):
    """keras-tuner as it is where nothing has been wrapped yet, and again after the test."""
    from keras_tuner.src import utils
    from keras_tuner.src.distribute import oracle_chief

    for module, names in ((utils, ("save_json", "load_json")), (oracle_chief, ("start_server",))):
        for name in names:
            own = getattr(module, name)
            monkeypatch.setattr(module, name, getattr(own, "__wrapped__", own))


@rests_on("keras_tuner.src.utils.save_json, load_json", "wrap_files")
def test_wrap_files(unwrapped, tmp_path):
    """A whole search writes and reads each of its files by way of them."""
    seen = []

    def save(own, path, obj):
        seen.append(("save", path.rsplit("/", 1)[1]))
        return own(path, obj)

    def load(own, path):
        seen.append(("load", path.rsplit("/", 1)[1]))
        return own(path)

    for _ in "12":
        private.wrap_files(save, load)
    make(tmp_path).search(verbose=0)
    names = {"oracle.json", "trial.json", "tuner0.json"}
    assert {name for what, name in seen if what == "save"} == names
    del seen[:]
    make(tmp_path)
    assert {name for what, name in seen if what == "load"} == names


@rests_on("keras_tuner.src.distribute.oracle_chief.start_server", "wrap_chief")
def test_wrap_chief(unwrapped, tmp_path, monkeypatch):
    for name, value in (("ORACLE_IP", "127.0.0.1"), ("ORACLE_PORT", "1"), ("TUNER_ID", "chief")):
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    served = []
    private.wrap_chief(lambda own, oracle: served.append((own.__name__, oracle)))
    tuner = make(tmp_path)
    tuner.search(verbose=0)
    assert served == [("start_server", tuner.oracle)]


@rests_on("Oracle._project_dir", "project_folder")
def test_project_folder(tmp_path):
    assert private.project_folder(make(tmp_path).oracle) == str(tmp_path / "p")


def test_all_is_tested():
    assert upstream.untested(private, list(globals().values())) == set()
