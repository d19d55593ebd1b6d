"""All public options in one table: what they are called, where, and by which default.

    python -m tests.options_table [option ...]

`tests/test_options_table.py` keeps it in order: one kind of value a name, one order among siblings, one default where
nothing says otherwise.
"""

import collections
import importlib
import inspect
import pkgutil
import sys
from typing import NamedTuple

import keras_mtl

NO_DEFAULT = inspect.Parameter.empty
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Option(NamedTuple):
    """One option of one public function or class."""

    package: str
    owner: str
    name: str
    position: int
    default: object

    @property
    def place(self):
        return f"{self.package}.{self.owner}"

    @property
    def shown(self):
        """The default as it reads in a signature."""
        return "" if self.default is NO_DEFAULT else getattr(self.default, "__name__", None) or repr(self.default)


def public():
    """Tuples of package, name and object: what the faces of the packages name."""
    for _, package, is_package in pkgutil.iter_modules(keras_mtl.__path__):
        module = importlib.import_module(f"keras_mtl.{package}")
        for name in getattr(module, "__all__", ()) if is_package else ():
            if callable(getattr(module, name)):
                yield package, name, getattr(module, name)


def all_options():
    """Every option of every public function and class, in the order of their signatures."""
    found = []
    for package, owner, one in public():
        function = one.__init__ if inspect.isclass(one) else one
        named = [
            p for p in inspect.signature(function).parameters.values() if p.kind not in _VARIADIC and p.name != "self"
        ]
        found += [Option(package, owner, p.name, i, p.default) for i, p in enumerate(named)]
    return found


def by_name(options):
    """Dict from an option's name to those that are called so, names in order."""
    found = collections.defaultdict(list)
    for option in sorted(options, key=lambda option: option.name):
        found[option.name].append(option)
    return dict(found)


def table(names=()):
    """The table in Markdown, a row for each name and default."""
    rows = ["| option | default | of |", "|---|---|---|"]
    for name, options in by_name(all_options()).items():
        if names and name not in names:
            continue
        of_default = collections.defaultdict(list)
        for option in options:
            of_default[option.shown].append(option.place)
        for default, places in of_default.items():
            rows.append(f"| `{name}` | {f'`{default}`' if default else ''} | {', '.join(places)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(sys.argv[1:]))
