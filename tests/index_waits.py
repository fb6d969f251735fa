"""Waiting for an index that a thread of its own builds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from synadb import VectorStore


def search_until_indexed(store: VectorStore, queries: NDArray[np.float32], rows: int) -> None:
    """Searches until the index holds so many live vectors, a minute at most."""
    end = time.monotonic() + 60
    while (store.index_stats() or {"rows": 0})["rows"] != rows:
        assert time.monotonic() < end, store.index_stats()
        store.search_batch(queries, k=1)
