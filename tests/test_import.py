"""What `import keras_mtl` costs and gives."""

import subprocess
import sys

import pytest

import keras_mtl

PROGRAM = """
import sys, time
import keras
sys.dont_write_bytecode, sys.pycache_prefix = False, sys.argv[1]  # as an installed package has it
before, start = set(sys.modules), time.perf_counter()
import keras_mtl
print(time.perf_counter() - start)
print(*(set(sys.modules) - before))
"""


@pytest.fixture(scope="module")
def imports(tmp_path_factory):
    """Seconds over `import keras` in four processes, the first of which compiles, and the modules that came with it."""
    run = [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("bytecode"))]
    runs = [subprocess.run(run, capture_output=True, text=True, check=True) for _ in "1234"]
    seconds, modules = zip(*(run.stdout.splitlines()[-2:] for run in runs), strict=True)
    return min(map(float, seconds)), set(modules[0].split())


def test_import_takes_at_most_a_fifth_of_a_second(imports):
    assert imports[0] <= 0.2


def test_import_brings_nothing_heavy(imports):
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
    tops = {module.split(".")[0] for module in imports[1]}
    assert not tops & heavy
    assert "keras_mtl.training.backends" not in imports[1]  # the backend's file comes with the first step


def test_public_names():
    assert sorted(keras_mtl.__all__) == list(dict.fromkeys(sorted(keras_mtl.__all__)))
    for name in keras_mtl.__all__:
        assert getattr(keras_mtl, name) is not None
    with pytest.raises(AttributeError):
        _ = keras_mtl.no_such_name
