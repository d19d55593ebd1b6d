"""What only private members of keras-tuner give, each in one small function.

Nothing else in the package touches a private member of keras-tuner. See
`keras_mtl/_keras_private.py`. Importing this imports keras-tuner.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras_tuner


def wrap_files(save: Callable[..., Any], load: Callable[..., Any]) -> None:
    """Has keras-tuner write and read its JSON files by way of two functions, from now on.

    A search reads its files while the tuner is made, and a hypermodel is never
    told of the tuner, so that there is no narrower place for it. A second call
    changes nothing.

    Args:
        save: Function of keras-tuner's own `save_json`, a path and an object.
        load: Function of keras-tuner's own `load_json` and a path.
    """
    from keras_tuner.src import utils

    utils.save_json = _wrapped(utils.save_json, save)
    utils.load_json = _wrapped(utils.load_json, load)


def wrap_chief(serve: Callable[..., Any]) -> None:
    """Has the chief of a search hand out its trials by way of a function, from now on.

    Args:
        serve: Function of keras-tuner's own `start_server` and an oracle.
    """
    from keras_tuner.src.distribute import oracle_chief  # imports gRPC

    oracle_chief.start_server = _wrapped(oracle_chief.start_server, serve)


def project_folder(oracle: keras_tuner.Oracle) -> str:
    """The folder in which a search keeps its files."""
    return str(oracle._project_dir)


def _wrapped(own: Callable, by: Callable) -> Callable:
    if hasattr(own, "__wrapped__"):
        return own

    @functools.wraps(own)
    def call(*args: Any) -> str:
        return by(own, *args)

    return call
