"""Checks of arguments that only the Python classes have."""

from __future__ import annotations

from typing import SupportsIndex

from synadb.errors import InvalidArgumentError, UnsupportedError

INVALID_ARGUMENT = -14
_UNSUPPORTED = -16


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """The value as an int between two limits.

    Raises `TypeError` for anything else, a bool too, and `InvalidArgumentError` beyond the limits.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an int, got {type(value).__name__!r}")
    number = value.__index__()
    if number < least or (most is not None and number > most):
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidArgumentError(INVALID_ARGUMENT, f"{name}: it must be {limits}, got {number}")
    return number


def check_bool(name: str, value: object) -> None:
    """Raises `TypeError` for what is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__!r}")


def check_faiss(index_type: object, nprobe: object) -> None:
    """Checks the two options that name a FAISS index."""
    if not isinstance(index_type, str):
        raise TypeError(f"faiss_index_type must be a str, got {type(index_type).__name__!r}")
    if isinstance(nprobe, bool) or not isinstance(nprobe, SupportsIndex):
        raise TypeError(f"faiss_nprobe must be an int, got {type(nprobe).__name__!r}")
    if nprobe.__index__() < 1:
        raise InvalidArgumentError(
            INVALID_ARGUMENT, f"faiss_nprobe: it must be 1 or more, got {nprobe}"
        )


def checked_backend(backend: str, use_gpu: bool) -> str:
    """The backend in lower case.

    Raises `TypeError`, `InvalidArgumentError`, and `UnsupportedError` for what is there in another
    way, or not yet.
    """
    for name, value, wanted in (("backend", backend, str), ("use_gpu", use_gpu, bool)):
        if not isinstance(value, wanted):
            got = type(value).__name__
            raise TypeError(f"{name} must be a {wanted.__name__}, got {got!r}")
    asked = backend.lower()
    if asked not in ("auto", "flat", "hnsw", "faiss"):
        raise InvalidArgumentError(
            INVALID_ARGUMENT,
            f"Invalid backend '{backend}'. Must be one of: auto, flat, hnsw, faiss",
        )
    if asked == "faiss":
        raise UnsupportedError(
            _UNSUPPORTED,
            "backend 'faiss' is a call of its own: store.to_faiss(factory); use 'auto'",
        )
    if use_gpu:
        raise UnsupportedError(_UNSUPPORTED, "use_gpu comes with the GPU backends; leave it out")
    return asked
