"""Sphinx configuration. Build with `sphinx-build -W docs docs/_build`."""

import os
import re
from importlib.metadata import version as installed_version

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

project = "keras_mtl"
author = "the keras_mtl authors"
project_copyright = author
version = release = installed_version("keras_mtl")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"keras_mtl {version}"
default_role = "code"  # `x` in docstrings is code, as in Markdown
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
smartquotes = False

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Reference", "References"),
    "Deviations",
    "Equation",
]

FENCE = re.compile(r"^( *)```(\w*)$")


def _fences_to_directives(app, what, name, obj, options, lines):
    """Turns the Markdown code fences of a docstring into code blocks."""
    out, inside = [], False
    for line in lines:
        fence = FENCE.match(line)
        if not fence:
            out.append(f"   {line}" if inside and line else line)
        elif inside:
            out.append("")
            inside = False
        else:
            out += [f"{fence[1]}.. code-block:: {fence[2] or 'text'}", ""]
            inside = True
    lines[:] = out


def setup(app):
    app.connect("autodoc-process-docstring", _fences_to_directives, priority=100)  # before napoleon
