"""Trainings on JAX, in one process of their own, lead where they lead on TensorFlow, in this one."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from keras_mtl.training import backends
from tests.backends import cells, checks
from tests.rows import by_default

# A cell of each kind of step: weighted losses, rows and factors of task gradients, those of features, a Jacobian, and
# weights that hold for several steps. Methods with a closed form have little to compile.
QUICK = [
    "uncertainty/parameters/absent",
    "upgrad/parameters/factored",
    "imtl_g/features/added",
    "imtl_g/parameters/every",
    "dbmtl/parameters/accumulated",
]
# What half precision rounds differently, and MMD, a small difference of sums.
TOLERANCES = {"float16": 5e-3, "bfloat16": 5e-2, "penalties": 5e-5}


pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the processes hand each other: here, models that TensorFlow has saved."""
    folder = tmp_path_factory.mktemp("backends")
    checks.save_halfway(folder)
    return folder


@pytest.fixture(scope="module")
def on_jax(request, folder):
    """What the process on JAX has found, by the name of a cell or check; all that are asked for run in one process."""
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and "name" in getattr(getattr(item, "callspec", None), "params", {})
    ]
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # which take longer than these steps
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, "-m", "tests.backends.checks", str(folder), *names]
    root = request.config.rootpath
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as found:
        return {name.replace("|", "/"): found[name] for name in found.files}


def test_both_cores_have_the_same_names():
    """What a step asks of one, the other has: each says it in `__all__`."""
    said = {}
    for backend in ("jax", "tensorflow"):
        tree = ast.parse((pathlib.Path(backends.__file__).parent / f"{backend}.py").read_text("utf-8"))
        said[backend] = next(
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        )
    assert said["jax"] == said["tensorflow"]
    assert not [name for name in said["jax"] if not hasattr(backends.core, name)]


def found_on_jax(on_jax, name):
    found = on_jax[name]
    assert found.dtype.kind != "U", str(found)
    return found


@pytest.mark.parametrize("name", by_default(QUICK, cells.ALL))
def test_five_steps_are_the_same(name, on_jax):
    found, expected = found_on_jax(on_jax, name), cells.numbers(name)
    mode = name.split("/")[-1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES.get(mode, 1e-5))


@pytest.mark.parametrize("name", by_default(checks.QUICK, checks.ALL))
def test_on_jax(name, on_jax):
    found_on_jax(on_jax, name)


def test_a_model_saved_on_jax_goes_on_here(on_jax, folder):
    checks.assert_goes_on(folder / "from_jax.keras", folder / "whole.npz")
