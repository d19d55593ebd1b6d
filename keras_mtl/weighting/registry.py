"""Weightings by name."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_mtl.weighting.base import Weighting

_WEIGHTINGS: dict[str, type[Weighting]] = {}


def register(name: str) -> Callable[[type], type]:
    """Registers a class of this package: with Keras, for its config, and under the name that `get` knows.

    Args:
        name: String. Name of the method.

    Returns:
        A class decorator.
    """

    def decorate(cls: type) -> type:
        _WEIGHTINGS[name] = keras.saving.register_keras_serializable(package="keras_mtl")(cls)
        return cls

    return decorate


def names() -> list[str]:
    """Names that `keras_mtl.weighting.get` and `compile(weighting=...)` know.

    Returns:
        Sorted list of strings.
    """
    return sorted(_WEIGHTINGS)


def serialize(weighting: Weighting) -> dict[str, Any]:
    """Config of a weighting, as `deserialize` takes it.

    Args:
        weighting: A `Weighting`.

    Returns:
        A JSON-compatible dict.
    """
    return keras.saving.serialize_keras_object(weighting)


def deserialize(config: Mapping[str, Any]) -> Weighting:
    """Makes a weighting from a config made by `serialize`.

    Args:
        config: Dict.

    Returns:
        A `Weighting`.
    """
    weighting = keras.saving.deserialize_keras_object(config)
    if not isinstance(weighting, Weighting):
        raise ValueError(f"`config` should describe a keras_mtl weighting. Received: config={config!r}")
    return weighting


def get(identifier: str | Weighting | Mapping[str, Any]) -> Weighting:
    """Weighting of a name, a config or a weighting.

    Args:
        identifier: String (see `names()`), a `Weighting`, or a config dict.

    Returns:
        A `Weighting`.

    Raises:
        ValueError: If the name is unknown or the type is wrong.

    Example:

    >>> keras_mtl.weighting.get("mgda").requires
    'gramian'
    """
    if isinstance(identifier, Weighting):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str) and identifier in _WEIGHTINGS:
        return _WEIGHTINGS[identifier]()
    raise ValueError(
        f"`weighting` should be one of {names()}, a `keras_mtl.weighting.Weighting` or its config. "
        f"Received: weighting={identifier!r}"
    )
