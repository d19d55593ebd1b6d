"""What `import keras_mtl` gives and brings along. How long it takes: recipes/benchmarks/import_time.py."""

import subprocess
import sys

import pytest

import keras_mtl

PROGRAM = """
import sys
import keras
before = set(sys.modules)
import keras_mtl
print(*(set(sys.modules) - before))
"""


def test_import_brings_nothing_heavy():
    """Of the modules that come over `import keras`."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    modules = set(run.stdout.split())
    heavy = {
        "scipy",
        "matplotlib",
        "rich",
        "tensorboard",
        "keras_tuner",
        "tensorflow_datasets",
        "sklearn",
        "mlxtend",
        "jax",
    }
    assert "keras_mtl.models" in modules and not {module.split(".")[0] for module in modules} & heavy
    assert "keras_mtl.training.backends" not in modules  # the backend's file comes with the first step


def test_public_names():
    assert sorted(keras_mtl.__all__) == list(dict.fromkeys(sorted(keras_mtl.__all__)))
    for name in keras_mtl.__all__:
        assert getattr(keras_mtl, name) is not None
    with pytest.raises(AttributeError):
        _ = keras_mtl.no_such_name
