"""Studies train many models, and nobody is told that each of them is traced."""

import pytest

from keras_mtl.analysis._progress import run_bar

RETRACING = "5 out of the last 5 calls to <function f at 0x1> triggered tf.function retracing. Tracing is expensive"


@pytest.mark.parametrize("show", [False, True])
def test_retracing_is_silent_within_a_study_alone(show, capsys, tensorflow_log):
    logger, heard = tensorflow_log
    with run_bar("study", 1, show) as begin:
        begin("first")
        logger.warning(RETRACING)
        logger.warning("something else")
    logger.warning(RETRACING)
    assert heard == ["something else", RETRACING]
    assert ("study" in capsys.readouterr().out) == show
