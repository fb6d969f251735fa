"""`MmapVectorStore`: a vector store for many inserts, whose writes wait for no medium."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from synadb._arguments import whole_number
from synadb._native import SearchResult
from synadb._unsynced import UnsyncedStore

if TYPE_CHECKING:
    from synadb.database import SynaDB

__all__ = ["MmapSearchResult", "MmapVectorStore"]

MmapSearchResult = SearchResult
"""What `MmapVectorStore.search` finds: `key`, `score`, and the stored `vector`."""


class MmapVectorStore(UnsyncedStore):
    """A `VectorStore` whose writes return before they are on the medium.

    A write that returned survives the process's death, and at once. It survives the machine's
    after `checkpoint()`, `flush()` or `close()`, and after a sync that begins by itself within 30
    seconds; with `sync_on_write=True` before it returns. On an open `SynaDB` all that is as the
    `SynaDB` has it, whose `sync_interval` is that time.

    The vectors lie once, in the log of a database file, which any store maps and reads: a file that
    this class made opens as a `VectorStore` and the other way round, through the same table, and
    each sees at once what the other writes. Inserting an existing key replaces its vector.

    `dimensions` and `metric` are those of the file; a new one has 768 and `"cosine"` unless they
    are given. `initial_capacity` is checked and has no effect: the file grows as it is written to,
    by space that is really there, so that a full disk is a `DiskFullError`. `path`, `name`,
    `access`, `lock_timeout`, `maintenance` and `target_recall` are those of `VectorStore`, and so
    is what each call raises.

    >>> import numpy as np
    >>> import synadb
    >>> rows = np.eye(3, dtype=np.float32)
    >>> with synadb.MmapVectorStore("many.mmap", dimensions=3, initial_capacity=1000) as store:
    ...     _ = store.insert_batch(["x", "y", "z"], rows)
    ...     store.build_index()
    ...     store.checkpoint()
    ...     store.search(rows[1], k=1)[0].key
    'y'
    """

    def __new__(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        metric: str | None = None,
        initial_capacity: int = 100_000,
        *,
        sync_on_write: bool | None = None,
        name: str | None = None,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        target_recall: float | None = None,
    ) -> Self:
        whole_number("initial_capacity", initial_capacity, 0)
        return super().__new__(
            cls,
            path,
            dimensions,
            metric,
            sync_on_write=sync_on_write,
            name=name,
            access=access,
            lock_timeout=lock_timeout,
            maintenance=maintenance,
            target_recall=target_recall,
        )
