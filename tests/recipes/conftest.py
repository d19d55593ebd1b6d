"""How tests get at recipes."""

import importlib
import sys
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """Imports a recipe or a study as its own `main` would see it, in an empty folder."""
    monkeypatch.syspath_prepend(str(RECIPES / "studies"))
    monkeypatch.syspath_prepend(str(RECIPES))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    yield importlib.import_module
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path and RECIPES in Path(path).parents:
            del sys.modules[name]
