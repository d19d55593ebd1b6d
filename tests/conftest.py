import logging

import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def mirrored_strategy():
    """The one `MirroredStrategy` of this process, on two logical CPU devices.

    A second one in the same process dies with "Shape mismatch in the collective
    instance", so tests take this fixture and never make their own.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def tensorflow_log(monkeypatch):
    """TensorFlow's logger, and the list of what it is heard to say."""
    logger, heard = logging.getLogger("tensorflow"), []
    monkeypatch.setattr(logger, "level", logging.WARNING)  # recipes raise it
    logger.manager._clear_cache()
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger.addHandler(handler)
    yield logger, heard
    logger.removeHandler(handler)
