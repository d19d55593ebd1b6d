"""Tables are text wherever they are made."""

import builtins

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl._tables import table_text


def texts():
    model = keras_mtl.hard_sharing(
        keras.Input((2,)), [keras.layers.Dense(2, name="low")], {task: keras.layers.Dense(1) for task in "ab"}
    )
    lines = []
    model.sharing_summary(print_fn=lines.append)
    report = keras_mtl.data.missing_report({"a": np.array([1.0, np.nan])}, missing="nan")
    return table_text(["task"], [["price"]]), str(report), "".join(lines)


@pytest.fixture
def notebook(monkeypatch):
    class ZMQInteractiveShell:
        """What rich takes for a notebook."""

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)


def test_tables_are_text_in_a_notebook(notebook):
    from rich.console import Console

    assert Console().is_jupyter
    table, report, summary = texts()
    assert "price" in table and "entries, %" in report and "shared_low" in summary
