"""A file that a killed process was writing is never there in part, and the one before it stays."""

import os
import pathlib
import stat
import subprocess
import sys
import threading
import zipfile

import keras
import numpy as np
import pytest

import keras_mtl

X = np.eye(3, dtype="float32")


def make_model():
    model = keras_mtl.hard_sharing(
        keras.Input((3,)), [keras.layers.Dense(2)], {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}
    )
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(X, {"a": X[:, 0], "b": X[:, 1]}, verbose=0)
    return model


@pytest.mark.parametrize(("save", "name"), [("save", "m.keras"), ("save_weights", "m.weights.h5")])
def test_a_save_that_dies_leaves_the_file_before_it(save, name, tmp_path, monkeypatch):
    model, path = make_model(), tmp_path / name
    getattr(model, save)(path)
    before, good = path.read_bytes(), [w.copy() for w in model.get_weights()]
    model.shared_variables[0].assign(model.shared_variables[0] + 1.0)

    def dies(self, *args, **kwargs):
        raise KeyboardInterrupt

    # After some of the content is written: the layers' variables are in the file by then.
    monkeypatch.setattr(keras_mtl.weighting.Equal, "save_own_variables", dies)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, save)(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [name]
    loaded = keras.models.load_model(path) if save == "save" else model
    if save == "save_weights":
        loaded.load_weights(path)
    for v, w in zip(loaded.get_weights(), good, strict=True):
        np.testing.assert_array_equal(v, w)


def test_a_truncated_file_is_not_loaded_as_good(tmp_path):
    model = make_model()
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    for name, load in (("m.keras", keras.models.load_model), ("m.weights.h5", model.load_weights)):
        content = (tmp_path / name).read_bytes()
        for part in (0, 1, 100, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:part])
            with pytest.raises((OSError, ValueError, KeyError, zipfile.BadZipFile)):
                load(tmp_path / name)


def test_other_ways_to_save_are_as_in_keras(tmp_path, monkeypatch):
    model = make_model()
    model.save(tmp_path / "folder", zipped=False)
    assert (tmp_path / "folder").is_dir()
    keras.models.load_model(tmp_path / "folder")
    model.save(str(tmp_path / "m.keras"))
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    before = (tmp_path / "m.keras").stat().st_mtime_ns
    model.save(tmp_path / "m.keras", overwrite=False)
    assert (tmp_path / "m.keras").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"\.keras"):
        model.save(tmp_path / "m.other")
    with pytest.raises(ValueError, match=r"\.weights\.h5"):
        model.save_weights(tmp_path / "m.other")


def test_checkpoints_and_backups_save_this_way(tmp_path, monkeypatch):
    seen = []
    replace = keras_mtl._files.os.replace
    monkeypatch.setattr(keras_mtl._files.os, "replace", lambda a, b: (seen.append(b.name), replace(a, b)))
    model = make_model()
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    model.fit(X, {"a": X[:, 0], "b": X[:, 1]}, verbose=0, callbacks=callbacks)
    assert sorted(seen) == ["best.keras", "latest.weights.h5"]


@pytest.mark.skipif(os.name != "posix", reason="modes and links are of POSIX systems")
@pytest.mark.parametrize(("save", "name"), [("save", "m.keras"), ("save_weights", "m.weights.h5")])
def test_modes_and_links_are_as_with_plain_keras(save, name, tmp_path):
    model, plain = make_model(), keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for folder, each in ((tmp_path / "here", model), (tmp_path / "plain", plain)):
        folder.mkdir()
        getattr(each, save)(folder / name)
        fresh = (folder / name).stat().st_mode
        (folder / name).chmod(0o600)
        getattr(each, save)(folder / name)
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        (folder / "link").mkdir()
        (folder / "link" / name).symlink_to(folder / name)
        (folder / name).write_bytes(b"old")
        getattr(each, save)(folder / "link" / name)
        assert (folder / "link" / name).is_symlink() and (folder / name).stat().st_size > 100
        assert sorted(p.name for p in folder.rglob("*")) == sorted(["link", name, name])
        (folder / "mode").write_text(str(fresh))
    assert (tmp_path / "here" / "mode").read_text() == (tmp_path / "plain" / "mode").read_text()


def test_a_full_disk_leaves_the_file_before_it(tmp_path):
    resource = pytest.importorskip("resource")
    model, path = make_model(), tmp_path / "m.keras"
    model.save(path)
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))  # a name fits, content does not
    try:
        with pytest.raises(OSError, match="large"):
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.keras"]


def test_two_threads_save_to_one_path(tmp_path):
    model, errors = make_model(), []

    def save():
        try:
            for _ in range(5):
                model.save(tmp_path / "m.keras")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=save) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and [p.name for p in tmp_path.iterdir()] == ["m.keras"]
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for one, other in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


SAVES = """
import os, pathlib, sys
import keras
from tests.models.test_saved_whole import make_model

children = []
for _ in range(2):  # TensorFlow has only been imported by now, so that it starts anew in the fork
    child = os.fork()
    if child == 0:
        try:
            model = make_model()
            for _ in range(20):
                model.save(sys.argv[1])
                keras.models.load_model(sys.argv[1])
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_two_processes_save_and_load_one_path(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SAVES, str(tmp_path / "m.keras")]
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [p.name for p in tmp_path.iterdir()] == ["m.keras"]
