"""Exported models give what the model gives: SavedModel, ONNX and TFLite, one task or all of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.examples import EVERY, build, draw_inputs, tasks_of
from tests.rows import by_default

ALL = by_default(["mtan"], EVERY)
ROWS = 3


def model_of(name):
    keras.utils.set_random_seed(0)
    model = build(name)
    model.compile("sgd", "mse")
    return model, draw_inputs(model, ROWS, np.random.default_rng(0))


def inputs_of(part, x):
    """The inputs of one task's part of a model."""
    return {key: x[key] for key in part.input} if isinstance(x, dict) else x


@pytest.mark.parametrize("name", ALL)
def test_saved_model(name, tmp_path):
    model, x = model_of(name)
    first = tasks_of(name)[0]
    alone = model.task_model(first)
    model.export(tmp_path / "all", verbose=False)
    alone.export(tmp_path / "one", verbose=False)
    all_tasks, one = (tf.saved_model.load(tmp_path / folder) for folder in ("all", "one"))
    served, expected = all_tasks.serve(x), model(x, training=False)
    assert set(served) == set(expected) >= set(tasks_of(name))
    for task in expected:
        np.testing.assert_allclose(served[task], expected[task], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.serve(inputs_of(alone, x)), expected[first], rtol=1e-5, atol=1e-6)


def run_tflite(content, x):
    """Outputs of a TFLite model, in its own order."""
    interpreter = tf.lite.Interpreter(model_content=content)
    given = {}
    for details in interpreter.get_input_details():
        key = details["name"].removeprefix("serving_default_").partition(":")[0]
        given[details["index"]] = x[key] if isinstance(x, dict) else x
        interpreter.resize_tensor_input(details["index"], given[details["index"]].shape)
    interpreter.allocate_tensors()
    for index, value in given.items():
        interpreter.set_tensor(index, value)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


def assert_same_outputs(found, wanted):
    """Each output is one of ours: the converters keep no names."""
    assert len(found) == len(wanted)
    for one in wanted:
        assert min(np.abs(one - other).max() for other in found if other.shape == one.shape) < 1e-5


@pytest.mark.filterwarnings("ignore")  # tf.lite says that it moves to another package
@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_tflite(name, tmp_path):
    model, x = model_of(name)
    expected, second = model(x, training=False), tasks_of(name)[1]
    for part in (model, model.task_model(second)):
        path = tmp_path / "model"
        part.export(path, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=["serving_default"])
        found = run_tflite(converter.convert(), inputs_of(part, x))
        assert_same_outputs(found, list(expected.values()) if part is model else [expected[second]])


@pytest.mark.filterwarnings("ignore")  # tf2onnx warns of NumPy and TensorFlow
@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_onnx(name, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, x = model_of(name)
    expected, second = model(x, training=False), tasks_of(name)[1]
    for part in (model, model.task_model(second)):
        path = tmp_path / "model.onnx"
        part(inputs_of(part, x))  # Keras wants any model to have been called before this format
        part.export(path, format="onnx", verbose=False)
        session = runtime.InferenceSession(str(path))
        given = {one.name: x[one.name] if isinstance(x, dict) else x for one in session.get_inputs()}
        found = session.run(None, given)
        assert_same_outputs(found, list(expected.values()) if part is model else [expected[second]])
