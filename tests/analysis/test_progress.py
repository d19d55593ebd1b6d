"""Studies train many models, and nobody is told that each of them is traced."""

import logging

import pytest

from keras_mtl.analysis._progress import run_bar

RETRACING = "5 out of the last 5 calls to <function f at 0x1> triggered tf.function retracing. Tracing is expensive"


@pytest.mark.parametrize("show", [False, True])
def test_retracing_is_silent_within_a_study_alone(show, capsys, monkeypatch):
    logger, heard = logging.getLogger("tensorflow"), []
    monkeypatch.setattr(logger, "level", logging.WARNING)  # recipes raise it
    logger.manager._clear_cache()
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    try:
        with run_bar("study", 1, show) as begin:
            begin("first")
            logger.warning(RETRACING)
            logger.warning("something else")
        logger.warning(RETRACING)
    finally:
        logger.removeHandler(handler)
    assert heard == ["something else", RETRACING]
    assert ("study" in capsys.readouterr().out) == show
