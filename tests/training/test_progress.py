"""What `fit` and `evaluate` print: task by task, within 120 columns."""

import re

import keras
import numpy as np
import pytest
from tensorflow.python.eager.polymorphic_function import polymorphic_function

import keras_mtl
from keras_mtl.training.progress import _lines, _number

TASKS = ("hospital_death", "charges", "length_of_stay")


@pytest.fixture(scope="module")
def model():
    model = keras_mtl.hard_sharing(
        keras.Input((3,)), [keras.layers.Dense(4)], {task: keras.layers.Dense(1) for task in TASKS}
    )
    model.compile("sgd", loss="mse", metrics={task: ["mae"] for task in TASKS}, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 3)).astype("float32"), {task: rng.normal(size=(8, 1)) for task in TASKS}


def printed(capsys):
    """Lines as a terminal shows them in the end."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    return [re.split(r"[\r\x08]+", line)[-1].rstrip() for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_line_for_each_task_of_at_most_120_columns(model, data, verbose, capsys):
    history = model.fit(*data, validation_data=data, epochs=2, batch_size=4, verbose=verbose).history
    lines = printed(capsys)
    assert max(map(len, lines)) <= 120
    assert [line.split()[0] for line in lines] == ["Epoch", "2/2", *TASKS] * 2
    assert "_loss" not in lines[1].replace("val_loss", "") and "val_loss" in lines[1]
    last = history["charges_loss"][-1], history["charges_mae"][-1], history["val_charges_loss"][-1]
    assert lines[-2].split() == [
        *("charges", "loss", f"{last[0]:.4f}", "mae", f"{last[1]:.4f}", "|", "val:", "loss", f"{last[2]:.4f}", "mae"),
        f"{history['val_charges_mae'][-1]:.4f}",
    ]
    assert not any("weight" in line for line in lines)  # they are 1 all the time
    assert history["charges_weight"] == [1.0, 1.0]  # and in the history as ever


def test_weights_that_move_are_shown(data, capsys):
    moving = keras_mtl.hard_sharing(
        keras.Input((3,)), [keras.layers.Dense(4)], {task: keras.layers.Dense(1) for task in TASKS}
    )
    moving.compile("sgd", loss="mse", weighting="scale_invariant", run_eagerly=True)
    moving.fit(*data, verbose=2)
    assert sum(" weight " in line for line in printed(capsys)) == len(TASKS)


def test_evaluate_alone_and_silence(model, data, capsys):
    model.evaluate(*data, verbose=1)
    lines = printed(capsys)
    assert [line.split()[0] for line in lines] == ["1/1", *TASKS] and max(map(len, lines)) <= 120
    model.fit(*data, verbose=0)
    model.evaluate(*data, verbose=0)
    assert not printed(capsys)


def test_tensorflow_does_not_speak_of_tracing(data, tensorflow_log, monkeypatch):
    logger, heard = tensorflow_log
    # TensorFlow counts the tracings of all models of a process, and says nothing from the third time on.
    counts = "_frequent_tracing_detector_manager"
    monkeypatch.setattr(polymorphic_function, counts, type(getattr(polymorphic_function, counts))())
    x, y = data[0][:7], {task: labels[:7] for task, labels in data[1].items()}
    model = keras_mtl.hard_sharing(
        keras.Input((3,)), [keras.layers.Dense(4)], {task: keras.layers.Dense(1) for task in TASKS}
    )
    model.compile("sgd", loss="mse", weighting="pcgrad")
    for end in (7, 6, 5, 7, 6, 5):  # last batches of several sizes
        part = x[:end], {task: labels[:end] for task, labels in y.items()}
        model.fit(*part, validation_data=(x, y), batch_size=4, epochs=2, verbose=0)
        model.evaluate(*part, batch_size=4, verbose=0)
        model.predict(x[:end], batch_size=4, verbose=0)
    logger.warning("heard")
    assert heard == ["heard"]


def test_the_users_own_bar_stays(model, data, capsys):
    model.fit(*data, verbose=2, callbacks=[keras.callbacks.ProgbarLogger()])
    (line,) = printed(capsys)
    assert "charges_loss" in line


def test_many_tasks_and_long_lines():
    of_tasks = {f"task_{i}": {"loss": 0.5, **{f"metric_{j}": 1.0 for j in range(12)}} for i in range(30)}
    lines = _lines(of_tasks, list(of_tasks))
    assert lines[-1] == "  and 18 more tasks, which `fit` returns the history of" and max(map(len, lines)) <= 120
    assert len(lines) == 12 * 3 + 1 and lines[1].startswith(" " * 9 + "  metric_")
    assert len(_lines({task: {"loss": 0.5} for task in list(of_tasks)[:13]}, list(of_tasks))) == 13


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.00012345, "0.000123"), (1e-9, "1e-09"), (123456.0, "1.23e+05"), (1.5, "1.5000")],
)
def test_numbers(value, text):
    assert _number(value) == text
