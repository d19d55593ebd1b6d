"""Set-up of every test, doctest and docs page, before TensorFlow looks at its devices."""

import gc
import os
import random

from tests.xla import quick_to_compile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# The models here are small: one thread per operation is faster than several, and xdist workers do not fight for cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", quick_to_compile())

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

# Two logical CPU devices stand in for two accelerators; TensorFlow takes this only before its first operation.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


class _Seeds(random.Random):
    """Seeds of TensorFlow's random operations, and whether any was drawn."""

    drawn = False

    def randint(self, *bounds):
        self.drawn = True
        return super().randint(*bounds)


# Members of TensorFlow's own: a version without them forgets as it likes, and the tests take longer.
_clear_kernel_cache = getattr(context.Context, "clear_kernel_cache", None)


def _forget(self):
    """To start from a seed again, TensorFlow forgets all it has compiled: a quarter of the tests' time.

    It has to where random operations have drawn since the last time, which go on where they were otherwise. Those with
    a seed of their own, and those in a graph that is called again, do not tell: no test here has them start anew.
    """
    seeds = getattr(self, "_rng", None)
    if getattr(seeds, "drawn", True):
        _clear_kernel_cache(self)
    if isinstance(seeds, _Seeds):
        seeds.drawn = False


def _set_global_seed(self, seed):
    _forget(self)
    self._seed, self._rng = seed, _Seeds(int(seed))


if _clear_kernel_cache and hasattr(context.Context, "_set_global_seed"):
    context.Context.clear_kernel_cache = _forget  # which Keras' `clear_session` calls
    context.Context._set_global_seed = _set_global_seed


def pytest_collection_finish(session):
    """Tracing makes many objects, and each full collection walks those of all imports and tests: 8 % of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Every test starts from the same seed, layer names and dtype policy."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    tf.config.run_functions_eagerly(False)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace, request):
    """Docstring examples may use `keras`, `keras_mtl` and `np` without importing them, and write in an empty folder."""
    if isinstance(request.node, pytest.DoctestItem):
        import keras_mtl

        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))
        doctest_namespace.update(keras=keras, keras_mtl=keras_mtl, np=np)
