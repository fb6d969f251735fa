"""`HybridVectorStore`: new vectors in a hot table, those that stay in a cold one, of one file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from synadb import _native
from synadb._arguments import check_bool
from synadb._progress import Report, reporting
from synadb._recall import MEASURED_K, MEASURED_QUERIES, measured
from synadb.errors import ConfigMismatchError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from synadb.reports import HybridStats

__all__ = ["HybridSearchResult", "HybridVectorStore"]

_DIMENSIONS = 768
"""What a new file gets where they are left out, as in the original."""


@dataclass(frozen=True, slots=True)
class HybridSearchResult:
    """What a search of a `HybridVectorStore` finds: smaller scores are nearer."""

    key: str
    score: float
    source: Literal["hot", "cold"]
    """Whether it is one of the new vectors, or of those that stay."""


class HybridVectorStore(_native.HybridVectorStore):
    """Two tables of vectors in one file: what is written is hot, what is promoted is cold.

    New vectors go to a table with an inverted file, as in `GravityWellIndex`, and
    `promote_to_cold` moves them to one with a cascade, as in `CascadeIndex`. A key has one vector,
    in one of the two: `ingest` removes what is cold under its key in the same commit, and each
    vector moves in one commit. A process that dies, at whatever moment, leaves every vector once,
    and a search sees both tables as of one moment.

    The file is at `cold_path`, where `CascadeIndex` and any other store show the cold vectors. No
    file is made at `hot_path`; where there is one already, `InvalidArgumentError` says so, unless
    both are the same file. `dimensions` and `metric` are those of the file; a new one has 768 and
    `"cosine"` unless they are given. `preset` is that of `CascadeIndex`. As in `MmapVectorStore`,
    writes return before they are on the medium unless `sync_on_write` says otherwise; `access`,
    `lock_timeout`, `maintenance` and `target_recall` are those of `VectorStore`, and so is what
    each call raises; each table reaches the recall by itself.

    Both tables are scanned until there are 10,000 vectors in one and it pays to build its index,
    by a thread of its own, as `VectorStore` says; `build_cold()` builds the cascade at once. What
    was promoted leaves its old place behind as dead bytes, which a compaction of the file removes.

    >>> import numpy as np
    >>> import synadb
    >>> rows = np.eye(8, dtype=np.float32)
    >>> with synadb.HybridVectorStore("hot.gwi", "cold.cascade", dimensions=8) as store:
    ...     _ = store.ingest_batch(["a", "b"], rows[:2])
    ...     moved = store.promote_to_cold()
    ...     store.ingest("c", rows[2])
    ...     moved, [(hit.key, hit.source) for hit in store.search(rows[2], k=1)]
    (2, [('c', 'hot')])
    """

    def __new__(
        cls,
        hot_path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        cold_path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        dimensions: int | None = None,
        *,
        metric: str | None = None,
        preset: str | None = None,
        sync_on_write: bool = False,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        target_recall: float | None = None,
    ) -> Self:
        options: dict[str, Any] = {
            "metric": metric,
            "preset": preset,
            "sync_on_write": sync_on_write,
            "access": access,
            "lock_timeout": lock_timeout,
            "maintenance": maintenance,
            "target_recall": target_recall,
        }
        width = _DIMENSIONS if dimensions is None else dimensions
        try:
            return super().__new__(cls, hot_path, cold_path, width, **options)
        except ConfigMismatchError:
            if dimensions is not None:
                raise
        return super().__new__(cls, hot_path, cold_path, None, **options)

    def initialize_hot(self, sample_vectors: ArrayLike) -> None:
        """Checks a sample of the vectors, float32 of shape `(n, dimensions)`, `n` at least 1.

        Where there are new vectors, it builds the inverted file of them anew. Repeatable, and not
        needed: attractors come from the stored vectors. Raises `InvalidArgumentError` for no
        vector, `DimensionError`, `InvalidVectorError`, and what a build does.
        """
        super().initialize_hot(sample_vectors)

    def search(
        self, query: ArrayLike, k: int = 10, *, target_recall: float | None = None
    ) -> list[HybridSearchResult]:
        """The `k` vectors nearest to `query`, shape `(dimensions,)`, nearest first, each key once.

        With `target_recall` so much of them is found in each table; see `VectorStore`. Raises
        `DimensionError`, `InvalidVectorError`, `InvalidArgumentError` for a negative `k` and for a
        recall that is not above 0 and at most 1, `CorruptionError`, `DatabaseClosedError`: no error
        is taken for no results.
        """
        return _results(self._search_one(query, k, "both", target_recall))

    def search_hot(
        self, query: ArrayLike, k: int = 10, *, target_recall: float | None = None
    ) -> list[HybridSearchResult]:
        """As `search`, among the new vectors only."""
        return _results(self._search_one(query, k, "hot", target_recall))

    def search_cold(
        self, query: ArrayLike, k: int = 10, *, target_recall: float | None = None
    ) -> list[HybridSearchResult]:
        """As `search`, among the promoted vectors only."""
        return _results(self._search_one(query, k, "cold", target_recall))

    def search_batch(
        self, queries: ArrayLike, k: int = 10, *, target_recall: float | None = None
    ) -> list[list[HybridSearchResult]]:
        """The answers of `search` to every row of `queries`, float32 of shape `(q, dimensions)`.

        Each piece of the queries sees what is stored when its turn comes; Ctrl-C ends the call.
        """
        return [_results(found) for found in self._search(queries, k, target_recall)]

    def promote_to_cold(self) -> int:
        """Moves the new vectors to the cold table, and returns how many moved.

        In several commits, each of which moves some thousand; others search and write meanwhile,
        and what is ingested meanwhile may stay hot. Where Ctrl-C ends it, or an error, what has
        moved stays cold and the rest hot. Searches scan what was promoted until the cascade is
        built anew. Raises `CorruptionError` by the key that cannot be read, `DiskFullError`,
        `ReadOnlyError`, `DatabaseClosedError`.
        """
        return super().promote_to_cold()

    def build_cold(
        self,
        *,
        target_recall: float | None = None,
        threads: int | None = None,
        progress: bool | Report | None = None,
    ) -> None:
        """Builds the cascade of the cold vectors; see `VectorStore.build_index`."""
        with reporting(progress, "build index") as report:
            super().build_cold(target_recall=target_recall, threads=threads, progress=report)

    def stats(self, usage: bool = True, *, recall: bool = False) -> HybridStats:
        """Sizes and states of the whole file, with every table in it; see `SynaDB.stats`.

        With `recall` also that of searches, as `VectorStore.stats` measures it: of each table
        under `"hot"` and `"cold"` of `"recall"`.
        """
        check_bool("recall", recall)
        stats = cast("HybridStats", super().stats(usage))
        if recall:
            hot, cold = map(measured, self._recall(MEASURED_K, MEASURED_QUERIES))
            stats["recall"] = {"hot": hot, "cold": cold}
        return stats

    def index_stats(self) -> dict[str, dict[str, Any] | None]:
        """`"hot"` and `"cold"`: what the index of each is and holds, as `VectorStore` says it."""
        return super().index_stats()


def _results(found: list[tuple[str, float, Literal["hot", "cold"]]]) -> list[HybridSearchResult]:
    return [HybridSearchResult(*hit) for hit in found]
