"""Checks of arguments that are numbers or booleans, and lists of what may be one."""

import numbers
from typing import Any, TypeGuard, overload

import numpy as np

from keras_mtl._types import Structure


@overload
def check_integer(value: object, argument: str, least: int = 0, most: int | None = None) -> int: ...


@overload
def check_integer(
    value: object, argument: str, least: int = 0, most: int | None = None, *, or_none: bool
) -> int | None: ...


def check_integer(
    value: object, argument: str, least: int = 0, most: int | None = None, or_none: bool = False
) -> int | None:
    """Raises where an argument is no integer of a range. NumPy's integers are some, booleans are not.

    Args:
        value: What was given.
        argument: String. Name of the argument, for the message.
        least: Integer. The least that is allowed. Defaults to 0.
        most: Integer or `None`. The most that is allowed.
        or_none: Boolean. Whether `None` is allowed too. Defaults to `False`.

    Returns:
        The value as an `int`, or `None`.
    """
    if or_none and value is None:
        return None
    if not is_integer(value) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        kind = "`None` or an integer" if or_none else "an integer"
        raise ValueError(f"`{argument}` should be {kind} {allowed}. Received: {argument}={value!r}")
    return int(value)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, NumPy's or Python's; booleans are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_number(
    value: float,
    argument: str,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Raises where an argument is no finite number of a range. NumPy's numbers are some, booleans are not.

    The range is that of float32, in which the layers compute: 1e-60 is not above 0.

    Args:
        value: What was given.
        argument: String. Name of the argument, for the message.
        least: Float or `None`. The least that is allowed.
        above: Float or `None`. What the value has to be above.
        most: Float or `None`. The most that is allowed.
        below: Float or `None`. What the value has to be below.

    Returns:
        The value as a `float`.
    """
    size = _in_float32(value)
    good = np.isfinite(size)
    good = good and (least is None or size >= least) and (above is None or size > above)
    good = good and (most is None or size <= most) and (below is None or size < below)
    if not good:
        limits = {"at least": least, "above": above, "at most": most, "below": below}
        allowed = " and ".join(f"{words} {limit}" for words, limit in limits.items() if limit is not None)
        allowed = allowed and f", {allowed}"
        raise ValueError(f"`{argument}` should be a finite number{allowed}. Received: {argument}={value!r}")
    return float(value)


def check_numbers(values: Structure, argument: str, **limits: Any) -> Structure:
    """Same as `check_number`, for one number or a list of them. Gives a `float` or a list of them."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    if isinstance(values, list | tuple):
        return [check_number(value, argument, **limits) for value in values]
    return check_number(values, argument, **limits)


@overload
def check_boolean(value: object, argument: str) -> bool: ...


@overload
def check_boolean(value: object, argument: str, *, or_none: bool) -> bool | None: ...


def check_boolean(value: object, argument: str, or_none: bool = False) -> bool | None:
    """Raises where an argument is no boolean: `"False"` and 0 are none, NumPy's are some.

    Args:
        value: What was given.
        argument: String. Name of the argument, for the message.
        or_none: Boolean. Whether `None` is allowed too. Defaults to `False`.

    Returns:
        The value as a `bool`, or `None`.
    """
    if or_none and value is None:
        return None
    if not isinstance(value, bool | np.bool_):
        kind = "`None`, True or False" if or_none else "True or False"
        raise ValueError(f"`{argument}` should be {kind}. Received: {argument}={value!r}")
    return bool(value)


def as_list(given: Structure) -> list[Any]:
    """What is one, or a list or tuple of several, as a list."""
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _in_float32(value: object) -> np.float32:
    """The value in float32; NaN where it is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return np.float32("nan")
    try:
        with np.errstate(over="ignore", under="ignore"):
            return np.float32(float(value))
    except OverflowError:  # an integer that is too large for a float
        return np.float32("inf")
