"""The differential equation's recipe: its network's derivatives and its exact solution."""

import importlib
from pathlib import Path

import keras
import numpy as np
import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
X = np.linspace(0.1, 0.9, 5)[:, None]
STEP = 1e-4


@pytest.fixture
def recipe(monkeypatch):
    """The recipe as its own `main` would see it, in float64."""
    pytest.importorskip("rich")
    monkeypatch.syspath_prepend(str(RECIPES))
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield importlib.import_module("physics_informed")
    keras.config.set_floatx(before)


@pytest.mark.oracle
def test_derivatives_are_those_of_differences(recipe):
    model = recipe.build("equal", 0, 1)
    below, here, above = (model(x) for x in (X - STEP, X, X + STEP))
    np.testing.assert_allclose(here["slope"], (above["value"] - below["value"]) / (2 * STEP), rtol=1e-6)
    second = (above["value"] - 2 * here["value"] + below["value"]) / STEP**2
    np.testing.assert_allclose(here["equation"], second, rtol=1e-4, atol=1e-6)


@pytest.mark.oracle
def test_the_exact_solution_solves_the_equation(recipe):
    below, here, above = (recipe.exact(x) for x in (X - STEP, X, X + STEP))
    np.testing.assert_allclose(here["slope"], (above["value"] - below["value"]) / (2 * STEP), rtol=1e-5)
    second = (above["value"] - 2 * here["value"] + below["value"]) / STEP**2
    np.testing.assert_allclose(here["equation"], second, rtol=1e-4, atol=1e-3)
    x, y = recipe.make_data()
    known = {task: int(np.isfinite(labels).sum()) for task, labels in y.items()}
    assert known == {"equation": recipe.POINTS, "value": 1, "slope": 1} and len(x) == recipe.POINTS + 2
