"""What the stores of the original have in common, beside all that `VectorStore` has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from synadb import _native
from synadb.errors import ConfigMismatchError
from synadb.vectors import VectorStore

if TYPE_CHECKING:
    from synadb.database import SynaDB

__all__ = ["UnsyncedStore"]

_DIMENSIONS = 768
"""What a new file gets where they are left out, as in the original."""


class UnsyncedStore(VectorStore):
    """A `VectorStore` whose writes to a path wait for no medium, with 768 dimensions in a new file.

    The stores of the original are this one with arguments and methods of their own.
    """

    def __new__(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        metric: str | None = None,
        *,
        sync_on_write: bool | None = None,
        name: str | None = None,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        target_recall: float | None = None,
    ) -> Self:
        if sync_on_write is None and not isinstance(path, _native.Database):
            sync_on_write = False
        options: dict[str, Any] = {
            "sync_on_write": sync_on_write,
            "name": name,
            "access": access,
            "lock_timeout": lock_timeout,
            "maintenance": maintenance,
            "target_recall": target_recall,
        }
        width = _DIMENSIONS if dimensions is None else dimensions
        try:
            return super().__new__(cls, path, width, metric, **options)
        except ConfigMismatchError:
            if dimensions is not None:
                raise
        return super().__new__(cls, path, None, metric, **options)

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        arguments, keywords = super().__getnewargs_ex__()
        for unknown in ("backend", "index_threshold"):
            del keywords[unknown]
        return arguments, keywords
