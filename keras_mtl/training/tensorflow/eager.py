"""Numbers in the middle of a trace."""

import contextlib

import tensorflow as tf


def outside_of_traces() -> contextlib.AbstractContextManager:
    """A context in which operations give numbers, also while a `tf.function` is traced."""
    return tf.init_scope()
