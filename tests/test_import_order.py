"""Imports flow one way, as CONTRIBUTING.md has it: a package takes those below it, at its top or later."""

import ast
import pathlib

import pytest

import keras_mtl

SOURCE = pathlib.Path(keras_mtl.__file__).parent
# From the bottom up. Those of one line know nothing of each other.
ORDER = [
    ["private"],  # keras_mtl/_*.py
    ["gradients"],  # training/backends and training/task_gradients.py, which know nothing of losses and tasks
    ["layers", "losses"],
    ["metrics", "penalties", "weighting"],
    ["fairness", "training"],
    ["models"],
    ["callbacks", "data", "distillation", "learned", "modular", "multimodal", "recommenders", "retrieval"],
    ["analysis", "rl"],
    ["tuning"],
]
LEVELS = {package: level for level, packages in enumerate(ORDER) for package in packages}
FILES = [path.relative_to(SOURCE) for path in sorted(SOURCE.rglob("*.py")) if path != SOURCE / "__init__.py"]
TENSORFLOW = {  # where it may be imported at all
    "_tensorflow_private.py",
    "training/backends/tensorflow.py",
    "callbacks/_board_graph.py",
    "callbacks/_board_writer.py",
    "tuning/_trial_board.py",
    "analysis/_checksums.py",
}
JAX = {
    "_jax_private.py",
    "_float64.py",
    "training/backends/jax.py",
    "training/backends/_blockwise.py",
    "training/backends/_linear_program.py",
}
# Imported only where it is needed, so that `import keras_mtl` does without.
HEAVY = {"scipy", "matplotlib", "rich", "tensorboard", "gymnasium", "pandas", "PIL"}


def package_of(module):
    parts = module.split(".")
    if parts[:2] == ["training", "backends"] or parts[:2] == ["training", "task_gradients"]:
        return "gradients"
    return "private" if parts[0].startswith("_") else parts[0]


def imported(path):
    """Pairs of a module's dotted name and whether it is imported at the top of the file."""
    tree = ast.parse((SOURCE / path).read_text("utf-8"))
    at_the_top = set(map(id, tree.body))
    of_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    never = {id(inner) for node in of_types for inner in ast.walk(node)}  # what annotations alone name
    for node in ast.walk(tree):
        if id(node) in never:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_the_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "keras_mtl":
            yield from ((f"keras_mtl.{alias.name}", id(node) in at_the_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, id(node) in at_the_top


def test_every_package_has_its_place():
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert folders | {"private", "gradients"} == set(LEVELS)


@pytest.mark.parametrize("package", LEVELS)
def test_a_package_takes_those_below_it(package):
    files = [path for path in FILES if package_of(".".join(path.with_suffix("").parts)) == package]
    assert files
    for path in files:
        for module, _ in imported(path):
            top, _, rest = module.partition(".")
            if top == "keras_mtl" and rest:
                taken = package_of(rest)
                assert taken == package or LEVELS[taken] < LEVELS[package], f"{path} imports {module}"


def test_backends_are_imported_in_few_files():
    for path in FILES:
        tops = {module.partition(".")[0] for module, _ in imported(path)}
        assert "tensorflow" not in tops or path.parts[0] == "data" or path.as_posix() in TENSORFLOW, path
        assert "jax" not in tops or path.as_posix() in JAX, path


def test_what_is_heavy_is_imported_where_it_is_needed():
    for path in FILES:
        tops = {module.partition(".")[0] for module, at_the_top in imported(path) if at_the_top}
        assert not tops & HEAVY or path.as_posix() in ("rl/shaping.py",), path


def test_imports_are_seen_wherever_they_stand():
    found = dict(imported(pathlib.Path("losses/loss_axes.py")))
    assert found["keras_mtl.training.backends"] is False and found["numpy"] is True
