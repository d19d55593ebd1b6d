"""Models that were saved by earlier versions load, predict what they predicted, and train on."""

import tarfile
import zipfile

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import weighting as W
from tests.fixtures.make_saved_models import ARCHIVE, names_in
from tests.models.examples import EVERY, refusal
from tests.rows import by_default


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder


def inputs_of(saved):
    """What was put into the model: one array, or several by name."""
    by_name = {key.removeprefix("x/"): saved[key] for key in saved.files if key.startswith("x/")}
    return by_name or saved["x"]


NAMES = sorted(names_in(ARCHIVE))
# By default every builder once, and the weightings in turn.
CHOSEN = {[n for n in NAMES if n.split("-")[0] == b][i % 10] for i, b in enumerate(EVERY)}


@pytest.mark.parametrize("name", by_default(CHOSEN, NAMES))
def test_loads_and_predicts_what_it_did(name, folder):
    model = keras.models.load_model(folder / f"{name}.keras", safe_mode=True)
    _, weighting = name.split("-")
    assert isinstance(model, keras_mtl.MultiTaskModel)
    assert type(model.weighting) is type(W.get(weighting))
    with np.load(folder / f"{name}.npz") as saved:
        outputs = model(inputs_of(saved), training=False)
        for task in model.tasks:
            np.testing.assert_allclose(outputs[task], saved[task], rtol=1e-4, atol=1e-5)
        state = [saved[key] for key in sorted(saved.files, key=lambda k: (len(k), k)) if key.startswith("state")]
    for variable, value in zip(model.weighting.variables, state, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


@pytest.mark.parametrize("name", by_default(["hard_sharing-nash"], ["hard_sharing-nash", "mmoe-uncertainty"]))
def test_trains_on(name, folder):
    model = keras.models.load_model(folder / f"{name}.keras")
    model.run_eagerly = True
    with np.load(folder / f"{name}.npz") as saved:
        y = {task: np.ones_like(saved[task]) for task in model.tasks}
        logs = model.train_on_batch(inputs_of(saved), y, return_dict=True)
    assert all(np.isfinite(value) for value in logs.values())


def test_every_builder_and_weighting_is_kept():
    """A new one has a model here too: `python -m tests.fixtures.make_saved_models`."""
    expected = {f"{b}-{w}" for b in EVERY for w in W.names() if not refusal(b, w)}
    assert not expected - set(NAMES)
    assert ARCHIVE.stat().st_size < 3 * 2**20


def test_no_file_has_code_in_it(folder):
    """Loading runs nothing from the file: there is no `Lambda`, and no pickled function."""
    for name in NAMES:
        config = zipfile.ZipFile(folder / f"{name}.keras").read("config.json").decode()
        assert '"__lambda__"' not in config and '"Lambda"' not in config, name


def test_a_model_with_code_in_it_is_refused(tmp_path):
    inputs = keras.Input((2,))
    outputs = {"a": keras.layers.Lambda(lambda x: x * 2, output_shape=(2,))(keras.layers.Dense(2)(inputs))}
    keras_mtl.MultiTaskModel(inputs, outputs).save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"(?s)lambda.*unsafe|unsafe.*lambda"):
        keras.models.load_model(tmp_path / "m.keras")
