"""`HybridVectorStore`: new vectors in a hot table, those that stay in a cold one, of one file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, Unpack, cast, overload

from synadb import _native
from synadb._arguments import INVALID_ARGUMENT, check_bool
from synadb._progress import Report, reporting
from synadb._recall import MEASURED_K, MEASURED_QUERIES, aimed, measured
from synadb._search_parameters import check_names
from synadb.errors import ConfigMismatchError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from synadb._index_parameters import IndexParameters
    from synadb._search_parameters import SearchParameters
    from synadb.database import SynaDB
    from synadb.reports import HybridStats

__all__ = ["HybridSearchResult", "HybridVectorStore"]

Source: TypeAlias = Literal["hot", "cold"]

_DIMENSIONS = 768
"""What a new file gets where they are left out, as in the original."""

_OF_ANY_INDEX = ("seed", "target_recall", "quantization")
"""Parameters that an index of each kind has."""


@dataclass(frozen=True, slots=True)
class HybridSearchResult:
    """What a search of a `HybridVectorStore` finds: smaller scores are nearer."""

    key: str
    score: float
    source: Source
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
    both are the same file. An open `SynaDB` in the place of both has the tables in its file, with
    its `access`, `lock_timeout`, `maintenance` and `sync_on_write`, others than which are refused:
    `HybridVectorStore(db, db, 384)`, which is closed on its own. `dimensions` and `metric` are
    those of the file; a new one has 768 and `"cosine"` unless they are given. `preset` is that of
    `CascadeIndex`. As in `MmapVectorStore`, writes return before they are on the medium unless
    `sync_on_write` says otherwise; `access`, `lock_timeout`, `maintenance` and `target_recall` are
    those of `VectorStore`, and so is what each call raises; each table reaches the recall by
    itself.

    A search takes what one of `VectorStore` takes, and `filter` goes for both tables. A number goes
    to each table whose index it is for: `nprobe` and `candidates` to the inverted file,
    `num_probes` and `ef_search` to the cascade, `ef_search` to a graph and `candidates` to codes
    where `build_index` built them in their place. One that is for neither raises
    `InvalidArgumentError`. A table that is told nothing of its own is searched as its index was
    built, or as a recall of the store or of the index says. `update` makes a vector hot, wherever
    the one before is.

    Both tables are scanned until there are 10,000 vectors in one and it pays to build its index,
    by a thread of its own, as `VectorStore` says; `build_index()` builds both at once. What was
    promoted leaves its old place behind as dead bytes, which a compaction of the file removes.

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

    _kinds: ClassVar[dict[Source, str]] = {"hot": "gravity_well", "cold": "cascade"}
    """What `build_index` builds where nobody says otherwise."""

    _preset: str | None
    _target_recall: float | None

    def __new__(
        cls,
        hot_path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        cold_path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        *,
        metric: str | None = None,
        preset: str | None = None,
        sync_on_write: bool | None = None,
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
            store = super().__new__(cls, hot_path, cold_path, width, **options)
        except ConfigMismatchError:
            if dimensions is not None:
                raise
            store = super().__new__(cls, hot_path, cold_path, None, **options)
        store._preset = preset
        store._target_recall = target_recall
        return store

    def initialize_hot(self, sample_vectors: ArrayLike) -> None:
        """Takes the attractors from a sample, float32 of shape `(n, dimensions)`, `n` at least 1.

        Where there are new vectors, it builds the inverted file of them anew; this object keeps the
        sample for later builds. Those of the vectors take the place of a sample unlike them, see
        `GravityWellIndex.initialize`. Repeatable, and not needed: without it attractors come from
        the stored vectors. Raises `InvalidArgumentError` for no vector, `DimensionError`,
        `InvalidVectorError`, and what a build does.
        """
        super().initialize_hot(sample_vectors)

    def search(
        self, query: ArrayLike, k: int = 10, **parameters: Unpack[SearchParameters]
    ) -> list[HybridSearchResult]:
        """The `k` vectors nearest to `query`, shape `(dimensions,)`, nearest first, each key once.

        Takes by keyword what `VectorStore.search` takes: `exact=True` looks at every vector;
        `ef_search`, `nprobe`, `candidates` and `num_probes`, each an `int`, go to the tables whose
        index they are for, as the class says; with `target_recall` so much of the nearest is found
        in each table; `filter`, a `KeyFilter` or keys, is for both. Raises `DimensionError`,
        `InvalidVectorError`, `InvalidArgumentError` for a negative `k`, for a number below 1 or
        that is for the index of no table, and for a recall that is not above 0 and at most 1 or
        beside a number, `TypeError` for another keyword and for what is no filter,
        `CorruptionError`, `DatabaseClosedError`: no error is taken for no results.
        """
        return _results(self._search(query, k, None, **check_names("search", parameters)))

    def search_hot(
        self, query: ArrayLike, k: int = 10, **parameters: Unpack[SearchParameters]
    ) -> list[HybridSearchResult]:
        """As `search`, among the new vectors only. A number for the cold table is left aside."""
        return _results(self._search(query, k, "hot", **check_names("search_hot", parameters)))

    def search_cold(
        self, query: ArrayLike, k: int = 10, **parameters: Unpack[SearchParameters]
    ) -> list[HybridSearchResult]:
        """As `search`, among the promoted vectors only, but for such as a new vector hides.

        Only who writes to the cold table by itself, through `CascadeIndex` for one, brings such
        about; `as_array`, `as_blocks` and every search leave them out, `cold_count` counts them.
        A number for the hot table is left aside.
        """
        return _results(self._search(query, k, "cold", **check_names("search_cold", parameters)))

    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        threads: int | None = None,
        as_arrays: Literal[False] = False,
        **parameters: Unpack[SearchParameters],
    ) -> list[list[HybridSearchResult]]: ...
    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        threads: int | None = None,
        as_arrays: Literal[True],
        **parameters: Unpack[SearchParameters],
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]: ...
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        threads: int | None = None,
        as_arrays: bool = False,
        **parameters: Unpack[SearchParameters],
    ) -> list[list[HybridSearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The answers of `search` to every row of `queries`, float32 of shape `(q, dimensions)`.

        Takes the keywords of `search`, too. Lists of results, or with `as_arrays` keys and scores
        in two arrays of shape `(q, k)`, as `VectorStore.search_batch` gives them: `None` and
        infinity where there are fewer, and no source. `threads` (all processors by default) search
        with the GIL released. Each piece of the queries sees what is stored when its turn comes;
        Ctrl-C ends the call.
        """
        search: Any = self._search_batch
        given = check_names("search_batch", parameters)
        found: Any = search(queries, k, threads=threads, as_arrays=as_arrays, **given)
        if as_arrays:
            arrays: tuple[NDArray[np.object_], NDArray[np.float32]] = found
            return arrays
        return [_results(hits) for hits in found]

    def get_batch(
        self, keys: Iterable[str], default: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `keys`, hot or cold, in their order: float32 `(len(keys), dimensions)`.

        All are of one moment; see `VectorStore.get_batch`, and what it raises.
        """
        return super().get_batch(keys, default)

    def as_array(
        self, *, copy: bool | None = None, source: Source | None = None
    ) -> tuple[NDArray[np.float32], list[str]]:
        """Every vector and its key, `matrix, keys`, the hot ones first; see `VectorStore.as_array`.

        Where both tables have vectors it is a copy, and `copy=False` raises `ValueError`, unless
        those of both fill pages of the file. With `source`, `"hot"` or `"cold"`, it is that table
        alone. All is of one moment. Raises `InvalidArgumentError` for another source,
        `CorruptionError`, `DatabaseClosedError`.

        >>> import synadb
        >>> with synadb.HybridVectorStore("array.hot", "array.cold", dimensions=2) as store:
        ...     store.ingest("a", [1.0, 2.0])
        ...     _ = store.promote_to_cold()
        ...     store.ingest("b", [3.0, 4.0])
        ...     matrix, keys = store.as_array()
        ...     cold, _ = store.as_array(copy=False, source="cold")
        >>> matrix.tolist(), keys, cold.tolist(), cold.flags.owndata
        ([[3.0, 4.0], [1.0, 2.0]], ['b', 'a'], [[1.0, 2.0]], False)
        """
        return super().as_array(copy=copy, source=source)

    def as_blocks(
        self, *, source: Source | None = None
    ) -> list[tuple[NDArray[np.float32], list[str]]]:
        """Every vector and its key, as views of the mapped file, never copies, the hot ones first.

        With `source`, `"hot"` or `"cold"`, those of one table; see `VectorStore.as_blocks`.
        """
        return super().as_blocks(source=source)

    def promote_to_cold(self) -> int:
        """Moves the new vectors to the cold table, and returns how many moved.

        In several commits, each of which moves some thousand; others search and write meanwhile,
        and what is ingested meanwhile may stay hot. Where Ctrl-C ends it, or an error, what has
        moved stays cold and the rest hot. Searches scan what was promoted until the cascade is
        built anew. Raises `CorruptionError` by the key that cannot be read, `DiskFullError`,
        `ReadOnlyError`, `DatabaseClosedError`.
        """
        return super().promote_to_cold()

    def build_index(
        self,
        kind: str | None = None,
        *,
        source: Source | None = None,
        threads: int | None = None,
        progress: bool | Report | None = None,
        **parameters: Unpack[IndexParameters],
    ) -> None:
        """Builds the index of both tables, one behind the other, or of that of `source`.

        Without `kind` the hot one gets its inverted file, the cold one its cascade; `kind` is one
        of `VectorStore.build_index`, which says what each takes, and what it raises. Parameters of
        a kind that is not named go with a `source`, for the two differ, and so does the
        `quantization` `"1bit"`; any other, `seed` and `target_recall` are for both. `index_saved`
        says whether the file has what was built. Where the second build is cancelled the first
        stays.

        >>> import numpy as np
        >>> import synadb
        >>> rows = np.random.default_rng(0).standard_normal((2000, 32), dtype=np.float32)
        >>> with synadb.HybridVectorStore("built.hot", "built.cold", dimensions=32) as store:
        ...     _ = store.ingest_batch([str(n) for n in range(2000)], rows)
        ...     _ = store.promote_to_cold()
        ...     store.build_index(source="cold", ef_search=120)
        ...     store.index_stats()["cold"]["kind"], store.search(rows[7], k=1)[0].key
        ('cascade', '7')
        """
        of_a_kind = [
            name
            for name, value in parameters.items()
            if name not in _OF_ANY_INDEX or (name == "quantization" and value == "1bit")
        ]
        if kind is None and source is None and of_a_kind:
            name = of_a_kind[0]
            raise InvalidArgumentError(
                INVALID_ARGUMENT,
                f"{name}: say by source or kind which index it is for, got neither",
            )
        sources: tuple[Source, ...] = ("hot", "cold") if source is None else (source,)
        for name in sources:
            self._build(name, kind, threads, progress, parameters)

    def _build(
        self,
        source: Source,
        kind: str | None,
        threads: int | None,
        progress: bool | Report | None,
        parameters: IndexParameters,
    ) -> None:
        """Builds the index of one table."""
        # What is no source is refused below.
        usual = self._kinds.get(source, "none") if isinstance(source, str) else "none"
        kind = usual if kind is None else kind
        own: IndexParameters = {}
        if self._preset is not None and isinstance(kind, str) and kind.lower() == "cascade":
            own = {"preset": self._preset}
        parameters = aimed(self._target_recall, parameters, own)
        with reporting(progress, f"build {source} index") as report:
            self._build_index(source, kind, threads=threads, progress=report, **parameters)

    @property
    def index_saved(self) -> bool | None:
        """Whether the file has what this handle built last; see `VectorStore.index_saved`."""
        return self._saved

    def build_cold(
        self,
        *,
        target_recall: float | None = None,
        threads: int | None = None,
        progress: bool | Report | None = None,
    ) -> bool:
        """Builds the cascade of the cold vectors; returns whether the file has it."""
        self.build_index(
            source="cold", target_recall=target_recall, threads=threads, progress=progress
        )
        return bool(self._saved)

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


def _results(found: list[tuple[str, float, Source]]) -> list[HybridSearchResult]:
    return [HybridSearchResult(*hit) for hit in found]
