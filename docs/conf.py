"""Sphinx configuration. Build with `sphinx-build -W docs docs/_build`."""

import inspect
import os
import re
from importlib.metadata import version as installed_version

from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

project = "keras_mtl"
author = "the keras_mtl authors"
project_copyright = author
version = release = installed_version("keras_mtl")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_additional_pages = {"404": "404.html"}
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"keras_mtl {version}"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
default_role = "code"  # `x` in docstrings is code, as in Markdown
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False

autodoc_inherit_docstrings = False  # a method is described where it is defined
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# The names of `keras_mtl/_types.py`, not what they stand for.
TYPES = (
    "Callbacks Data DependsOn Heads Inputs Layers Logs LossLike MetricLike Place Shape Stages Structure Tasks Tensor"
)
autodoc_type_aliases = {name: name for name in TYPES.split()}
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Reference", "References"),
    "Deviations",
    "Equation",
]

ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")  # how Sphinx writes an alias within a union
FENCE = re.compile(r"^( *)```(\w*)$")
INITIAL = re.compile(r"^( *- )([A-Z]\. )")


def _markdown_to_rst(app, what, name, obj, options, lines):
    """Turns code fences into code blocks and keeps "- R. Caruana" from being read as a list numbered R."""
    out, inside = [], False
    for line in lines:
        fence = FENCE.match(line)
        line = INITIAL.sub(r"\1\\\2", line)
        if not fence:
            out.append(f"   {line}" if inside and line else line)
        elif inside:
            out.append("")
            inside = False
        else:
            out += [f"{fence[1]}.. code-block:: {fence[2] or 'text'}", ""]
            inside = True
    lines[:] = out


def _signature_of_init(app, what, name, obj, options, signature, return_annotation):
    """Shows the arguments of `__init__`, which the `__new__` of Keras objects hides."""
    if what != "class":
        return tuple(text and ALIAS.sub(r"\1", text) for text in (signature, return_annotation))
    found = signature_of(obj.__init__, type_aliases=app.config.autodoc_type_aliases)
    found = found.replace(parameters=list(found.parameters.values())[1:], return_annotation=inspect.Signature.empty)
    return ALIAS.sub(r"\1", stringify_signature(found, unqualified_typehints=True)), return_annotation


def setup(app):
    app.connect("autodoc-process-docstring", _markdown_to_rst, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", _signature_of_init)
