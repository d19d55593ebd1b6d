"""No private member of another package is used outside of the modules that are for it."""

import ast
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import sys

import pytest

import keras_mtl

ROOT = pathlib.Path(keras_mtl.__file__).parents[1]
UPSTREAM = ("keras", "keras_tuner", "tensorflow", "tensorboard", "jax")
MODULES = ("_keras_private", "_tensorflow_private", "_keras_tuner_private", "_jax_private")  # where they may be used
HIDDEN = ("src", "python", "core", "interpreters", "extend")  # modules; JAX keeps the last three to no promise
UNSTABLE = ("__internal__", "get_bind_params")  # members whose names do not say that they are private
# Members of named tuples, and private ones of our own classes that their neighbours use.
OWN = {"_replace", "_owner", "_steps_given", "_annealing", "_once", "_batch", "_datasets", "_before"}
WHAT_TO_DO = (
    "Use a public member, or a function of keras_mtl/_keras_private.py and its neighbours, with a test of its own: see "
    "'Private members of other packages' in CONTRIBUTING.md. A private member of one of our own classes that another "
    "class needs should be made public, or be named in OWN of this file."
)


def is_private(name):
    return name in UNSTABLE or (name.startswith("_") and not (name.startswith("__") and name.endswith("__")))


def private_members(source):
    """Pairs of line and name, for each private member that a file uses of objects other than its own `self`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of = node.value
            own = isinstance(of, ast.Name) and of.id in ("self", "cls")
            own = own or (isinstance(of, ast.Call) and isinstance(of.func, ast.Name) and of.func.id == "super")
            if not own:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Attribute) and node.attr in HIDDEN:
            if isinstance(node.value, ast.Name) and node.value.id in ("tf", *UPSTREAM):
                yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("getattr", "hasattr", "setattr", "delattr") and len(node.args) > 1:
                name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
                if is_private(name) and ast.unparse(node.args[0]) != "self":
                    yield node.lineno, name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [f"{node.module}.{name}" for name in names]
            for module in modules:
                top, *parts = module.split(".")
                if top in UPSTREAM and any(part in HIDDEN or is_private(part) for part in parts):
                    yield node.lineno, module


FILES = sorted(path for folder in ("keras_mtl", "recipes") for path in (ROOT / folder).rglob("*.py"))


def test_files_use_no_private_members():
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if path.stem not in MODULES:
            found += [f"{name}:{line}: {x}" for line, x in private_members(path.read_text("utf-8")) if x not in OWN]
    assert len(FILES) > 100
    assert not found, f"{found}. {WHAT_TO_DO}"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("layer._flatten_layers()", ["_flatten_layers"]),
        ("a, b.c[0]()._x = 1, 2", ["_x"]),
        ("tf.__internal__.distribute", ["__internal__"]),
        ("getattr(x, '_keras_mask', None)", ["_keras_mask"]),
        ("hasattr(x.y, '_x')", ["_x"]),
        ("import keras.src.backend", ["keras.src.backend"]),
        ("from keras.src import backend", ["keras.src.backend"]),
        ("from tensorflow.python.framework import ops", ["tensorflow.python.framework.ops"]),
        ("from keras_tuner import src", ["keras_tuner.src"]),
        ("keras.src.utils.x()", ["keras.src"]),
        ("from jax.interpreters.partial_eval import dce_jaxpr", ["jax.interpreters.partial_eval.dce_jaxpr"]),
        ("import jax._src.core", ["jax._src.core"]),
        ("from jax import core", ["jax.core"]),
        ("jax.interpreters.ad", ["jax.interpreters"]),
        ("primitive.get_bind_params(x)", ["get_bind_params"]),
        ("from jax.extend.core import primitives", ["jax.extend.core.primitives"]),
        ("import jax.numpy, jax.experimental.sparse; found.extend(more), jax.linearize(x)", []),
        ("self._x, cls._x, super()._x(), x.__class__, x.y, getattr(self, '_x', None), getattr(x, name)", []),
        ("from keras_mtl import _keras_private", []),
    ],
)
def test_what_is_found(line, found):
    assert [name for _, name in private_members(line)] == found


@functools.cache
def named(cls):
    """The private members that a class defines, or names as its own."""
    names = re.findall(r"\b(?:self|cls|super\(\))\.(_[a-z]\w*)", inspect.getsource(cls))
    return {*names, *(name for name in vars(cls) if is_private(name))} - {"_abc_impl"}


def clashes(cls):
    """Private members of a class that a base of another package has, too: used, overridden or taken by accident."""
    bases = [base for base in cls.__mro__ if base.__module__.split(".")[0] in UPSTREAM]
    return named(cls) & set().union(*map(named, bases)) if bases else set()


def test_subclasses_use_and_override_no_private_members():
    classes = []
    for info in pkgutil.walk_packages(keras_mtl.__path__, "keras_mtl."):
        if not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            classes += [one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == info.name]
    found = {
        f"{cls.__module__}.{cls.__name__}": names
        for cls in classes
        if cls.__module__.split(".")[-1] not in MODULES and (names := clashes(cls))
    }
    assert len(classes) > 200
    assert not found, f"{found}. {WHAT_TO_DO}"


def test_clashes_are_found():
    private = sys.modules["keras_mtl._keras_private"]
    assert clashes(private.MomentsNormalization) == {"_moments"}
    assert clashes(private.ModelBuiltBefore) == {"_maybe_symbolic_build", "_symbolic_build"}
