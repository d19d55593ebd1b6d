"""Every public package has its page in the API reference."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import keras_mtl

API = Path(__file__).parents[2] / "docs" / "api"
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(keras_mtl.__path__) if module.ispkg)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_a_page(package):
    public = hasattr(importlib.import_module(f"keras_mtl.{package}"), "__all__")
    page = API / f"{package}.md"
    assert page.exists() == public
    assert not public or f"automodule:: keras_mtl.{package}\n" in page.read_text()
