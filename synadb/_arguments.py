"""Checks of arguments that only the Python classes have."""

from __future__ import annotations

from typing import SupportsIndex

from synadb.errors import InvalidArgumentError

_INVALID_ARGUMENT = -14


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """The value as an int between two limits.

    Raises `TypeError` for anything else, a bool too, and `InvalidArgumentError` beyond the limits.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an int, got {type(value).__name__!r}")
    number = value.__index__()
    if number < least or (most is not None and number > most):
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidArgumentError(_INVALID_ARGUMENT, f"{name}: it must be {limits}, got {number}")
    return number
