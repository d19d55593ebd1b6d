import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def mirrored_strategy():
    """The one `MirroredStrategy` of this process, on two logical CPU devices.

    A second one in the same process dies with "Shape mismatch in the collective
    instance", so tests take this fixture and never make their own.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
