"""What conftest.py changes in TensorFlow for the tests' sake leaves its promise as it is."""

import keras
import tensorflow as tf


def test_a_seed_starts_all_draws_again():
    """Of random operations with a state, too, whose kernels are forgotten only where something was drawn."""
    found = []
    for _ in range(3):
        keras.utils.set_random_seed(5)
        found.append([float(tf.random.uniform(())) for _ in range(3)])
        assert len(set(found[-1])) == 3
    assert found[0] == found[1] == found[2]
    keras.utils.clear_session()
    keras.utils.set_random_seed(6)
    assert float(tf.random.uniform(())) not in found[0]
