"""Every public package has its page in the API reference, and every public object its own."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import keras_mtl

API = Path(__file__).parents[2] / "docs" / "api"
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(keras_mtl.__path__) if module.ispkg)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_a_page(package):
    public = getattr(importlib.import_module(f"keras_mtl.{package}"), "__all__", None)
    page = API / f"{package}.md"
    assert page.exists() == (public is not None)
    if public is not None:
        text = page.read_text()
        assert f".. currentmodule:: keras_mtl.{package}\n" in text
        assert re.findall(r"^   (\w+)$", text, re.MULTILINE) == list(public)
        assert re.search(rf"^{package}$", (API / "index.md").read_text(), re.MULTILINE)
