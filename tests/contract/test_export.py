"""Exported models give what the model gives: SavedModel, ONNX and TFLite, one task or all of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.test_builders_contract import BUILDERS, HEADS, build

BY_DEFAULT = ("hard_sharing", "mmoe", "mtan")
ALL = [name if name in BY_DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS]
X = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")


def model_of(name):
    keras.utils.set_random_seed(0)
    model = build(name)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("name", ALL)
def test_saved_model(name, tmp_path):
    model = model_of(name)
    model.export(tmp_path / "all", verbose=False)
    model.task_model("left").export(tmp_path / "one", verbose=False)
    all_tasks, one = (tf.saved_model.load(tmp_path / folder) for folder in ("all", "one"))
    served, expected = all_tasks.serve(X), model(X, training=False)
    assert set(served) == set(expected) >= set(HEADS)
    for task in expected:
        np.testing.assert_allclose(served[task], expected[task], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.serve(X), expected["left"], rtol=1e-5, atol=1e-6)


def run_tflite(content):
    """Outputs of a TFLite model, in its own order."""
    interpreter = tf.lite.Interpreter(model_content=content)
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], X)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


@pytest.mark.filterwarnings("ignore")  # tf.lite says that it moves to another package
@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_tflite(name, tmp_path):
    model = model_of(name)
    expected = model(X, training=False)
    for part in (model, model.task_model("right")):
        path = tmp_path / "model"
        part.export(path, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["serving_default"])
        found = run_tflite(converter.convert())
        wanted = list(expected.values()) if part is model else [expected["right"]]
        assert len(found) == len(wanted)
        for one in wanted:  # the converter keeps no names here: each output is one of ours
            assert min(np.abs(one - other).max() for other in found) < 1e-5


@pytest.mark.filterwarnings("ignore")  # tf2onnx warns of NumPy and TensorFlow
@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_onnx(name, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(name)
    expected = model(X, training=False)
    for part in (model, model.task_model("right")):
        path = tmp_path / "model.onnx"
        part(X)  # Keras wants any model to have been called before this format
        part.export(path, format="onnx", verbose=False)
        session = runtime.InferenceSession(str(path))
        (given,) = session.get_inputs()
        found = session.run(None, {given.name: X})
        wanted = list(expected.values()) if part is model else [expected["right"]]
        assert len(found) == len(wanted)
        for one in wanted:
            assert min(np.abs(one - other).max() for other in found) < 1e-5
