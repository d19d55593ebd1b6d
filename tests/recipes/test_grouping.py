"""The recipes of task grouping: their data and what they count."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_mtl.analysis import Affinity, Grouping
from recipes.data import yeast

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch):
    """Imports a recipe as its own `main` would see it."""
    monkeypatch.syspath_prepend(str(RECIPES))
    before = set(sys.modules)

    yield importlib.import_module
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path and RECIPES in (Path(path).parent, Path(path).parent.parent):
            del sys.modules[name]


def test_planted_groups(recipe):
    recipe = recipe("grouping_study")
    for kind in recipe.UNITS:
        x, y = recipe.make_data(kind, 0)
        assert list(y) == recipe.TASKS and x.shape == (recipe.EXAMPLES, recipe.INPUTS)
        table = np.abs(np.corrcoef([labels[:, 0] for labels in y.values()]))
        within = table[:3, :3][np.triu_indices(3, 1)]
        assert within.min() > 0.4 if kind == "sums" else within.max() < 0.1
        assert table[:3, 3:].max() < 0.1  # groups have nothing in common
    assert recipe.found(Grouping(recipe.GROUPS)) and not recipe.found(Grouping([recipe.TASKS]))
    home = np.arange(6) // 3
    values = np.where(home[:, None] == home, 0.5, -0.1)
    assert np.isclose(recipe.contrast(Affinity(recipe.TASKS, values)), 5.0)


def test_labels_of_yeast_are_tasks(recipe, monkeypatch):
    recipe = recipe("task_grouping")
    rng = np.random.default_rng(0)
    arrays = {"inputs": rng.normal(size=(2417, 103)), "labels": rng.integers(0, 2, (2417, 14)).astype("float32")}
    splits = yeast.yeast(arrays=arrays)
    monkeypatch.setattr(recipe.yeast, "yeast", lambda: splits)
    (x, y), (test_x, _) = recipe.load(["label_0", "label_13"], quick=False)
    assert x.shape == (1500, 103) and len(test_x) == 917
    np.testing.assert_array_equal(y["label_13"][:, 0], splits["train"][1][:, 13])
    assert recipe.build(list(y)).tasks == ("label_0", "label_13")
