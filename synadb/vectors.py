"""`VectorStore`: nearest-neighbour search over vectors in one file, exact or through an index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Unpack, cast, overload

from synadb import _native
from synadb._arguments import check_bool, check_faiss, checked_backend
from synadb._native import KeyFilter, SearchResult
from synadb._progress import Report, reporting
from synadb._recall import MEASURED_K, MEASURED_QUERIES, aimed, measured

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from synadb._index_parameters import IndexParameters
    from synadb.database import SynaDB
    from synadb.faiss import FaissIndex
    from synadb.reports import StoreStats

__all__ = ["KeyFilter", "SearchResult", "VectorStore"]


class VectorStore(_native.VectorStore):
    """Vectors under string keys, and the nearest of them to a query.

    A search is exact until there is an index. One is built without being asked for, by a thread of
    its own, where `index_threshold` vectors or more (10,000) are in none and searches have scanned
    thirty times as many as the store holds: codes below 500,000 vectors, which find what the exact
    scan finds, an inverted file tuned to a recall of .99 above. Vectors that come later are
    scanned; once a few thousand were, and some searches have met them, another thread codes them,
    and the index takes them in when that pays. Each process codes for itself, anew after opening.
    `backend="flat"` keeps every search exact,
    `backend="hnsw"` has a graph built; `build_index` builds at once and has any kind, which stays.

    `path` is a file (`str`, `bytes`, `os.PathLike`; opened or created) or an open `SynaDB`, in
    whose file the vectors then lie. `dimensions` is 1 to 65,535; `metric` is `"cosine"`
    (default; 1 - cosine similarity), `"euclidean"` (with root) or `"dot_product"` (negated), in
    any case. For a file that has vectors both may be left out. `name` is the table within the
    file, so that one file may hold several stores. A score is a distance: smaller is nearer, and
    results ascend.

    `access`, `lock_timeout` and `maintenance` are those of `SynaDB`; on an open `SynaDB` they are
    its own and cannot be given. `sync_on_write` is that of the `SynaDB`, too, and `True` for a path
    unless it is given; one that differs from that of the `SynaDB` is refused. What else `SynaDB`
    can be told, `auto_compact` for one, a store has by being opened on one that was told so:
    `VectorStore(SynaDB(path, auto_compact=0.25), 384)`. A store on a `SynaDB` is closed on its own,
    and with `access="read_only"` moves with it, at a `refresh()` of either. It pickles as a store
    on the path, with `access`, `lock_timeout`, `maintenance` and `sync_on_write` of the `SynaDB`
    and without what only that can be told.

    `ef_search` of a search is the length of a graph's queue, `nprobe` how many cells of an inverted
    file are looked at, and `candidates` how many of the vectors that their codes find nearest there
    are compared in full, three times `k` at least, or are looked at again in a scan of codes alone,
    which keeps 2,000 of its own, or 16 times `k`; `num_probes` is how many buckets of a cascade are
    looked into. The more, the more of the nearest are found.

    `target_recall`, above 0 and at most 1, takes the place of these numbers: of a search, of
    `build_index`, whose index is then tuned to it and keeps it, and of the store, for all searches
    that are told neither; the narrower one goes first. The index is tuned on a sample of its own
    vectors, mixed with one another, for each recall and `k` once, in some seconds at most, and
    remembers what it found, in the file from the next checkpoint on. Queries unlike the vectors
    find less: measure with `exact=True`, which 1.0 is. A scan is made where the index does not
    reach the recall, and while it has less than 1,000 vectors. A recall and a number together
    raise `InvalidArgumentError`.

    `filter` of a search, a `KeyFilter` or an iterable of keys, says which keys it may return. Every
    kind of index heeds it while it searches: `k` hits are found where `k` keys pass.

    Vectors and queries are float32 of shape `(dimensions,)`, or real numbers that numpy converts;
    a single row of shape `(1, dimensions)` counts as a vector, a single vector as a batch of one.
    A C-contiguous float32 array is read without a copy. Inserting an existing key replaces its
    vector; `len` counts keys.

    Raises `ConfigMismatchError` where the file has other dimensions or another metric,
    `InvalidArgumentError` for an option that is another than that of the `SynaDB`,
    `DimensionError` for a vector of another length, `InvalidVectorError` for NaN and infinity
    (all four are `ValueError`), and `UnsupportedError` for `backend="faiss"` and `use_gpu`.

    >>> import synadb
    >>> with synadb.VectorStore("points.db", dimensions=2, metric="euclidean") as store:
    ...     store.insert("origin", [0.0, 0.0])
    ...     store.insert_batch(["east", "north"], [[3.0, 0.0], [0.0, 4.0]])
    ...     [(r.key, r.score) for r in store.search([0.0, 0.0], k=2)]
    2
    [('origin', 0.0), ('east', 3.0)]
    """

    COSINE: ClassVar[int] = 0
    EUCLIDEAN: ClassVar[int] = 1
    DOT_PRODUCT: ClassVar[int] = 2
    BACKEND_AUTO: ClassVar[str] = "auto"
    BACKEND_HNSW: ClassVar[str] = "hnsw"
    BACKEND_FAISS: ClassVar[str] = "faiss"

    _own_kind: ClassVar[str] = "hnsw"
    """What `build_index` builds where nobody says otherwise."""

    _backend: str
    _faiss_index_type: str
    _faiss_nprobe: int
    _target_recall: float | None

    def __new__(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        metric: str | None = None,
        backend: str = "auto",
        faiss_index_type: str = "IVF1024,Flat",
        faiss_nprobe: int = 10,
        use_gpu: bool = False,
        sync_on_write: bool | None = None,
        *,
        name: str | None = None,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        index_threshold: int | None = None,
        target_recall: float | None = None,
    ) -> Self:
        asked = checked_backend(backend, use_gpu)
        check_faiss(faiss_index_type, faiss_nprobe)
        store = super().__new__(
            cls,
            path,
            dimensions,
            metric,
            sync_on_write,
            name=name,
            access=access,
            lock_timeout=lock_timeout,
            maintenance=maintenance,
            backend=asked,
            index_threshold=index_threshold,
            target_recall=target_recall,
        )
        store._backend = asked
        store._faiss_index_type = faiss_index_type
        store._faiss_nprobe = faiss_nprobe
        store._target_recall = target_recall
        return store

    def build_index(
        self,
        kind: str | None = None,
        *,
        threads: int | None = None,
        progress: bool | Report | None = None,
        **parameters: Unpack[IndexParameters],
    ) -> None:
        """Builds an index of what is stored; searches go through it from then on.

        `kind` is `"hnsw"` (a graph), `"gravity_well"` (an inverted file), `"cascade"` (a graph that
        is entered through buckets of hyperplanes), `"flat"` (a scan of compact codes, next to
        exact) or `"none"`, which drops the index; without it that of `backend`, where `"auto"` is
        `"hnsw"`. A graph takes `m`, `m_max`, `ef_construction` and `ef_search`, an inverted file
        `cells` and `nprobe`, a cascade `num_probes`, `ef_search` and what `CascadeIndex` lists, all
        of them `seed`. `ef_search` (a build tries its graph with it), `nprobe` and `num_probes` are
        what a search does that is not told otherwise; one that the index has not is ignored. An
        inverted file without `nprobe` looks at 50 cells, and compares 100 candidates; both are
        raised where a sample shows that of vectors without structure these find less than .96 of
        the ten nearest. `target_recall` in their place has any kind tuned for ten neighbours.

        An index compares codes and ranks what it found by the vectors themselves. With
        `quantization=None` it compares those that it was built of in single precision, no codes:
        nodes hold them once more, cells do in memory, copied at each opening. A search takes
        several times as long; a flat index is then a scan of the table, as without an index.
        `"1bit"` leaves an inverted file of many dimensions half of the memory, and more rows that
        are compared in full. `"auto"`, which is the default, is what each kind is best with; a
        later build that does not say has that again, but that of a `CascadeIndex`.

        Of `m_max` links a node of a graph has as many, rounded up to 32; of `ef_construction`
        nearest vectors half are what they are chosen from; `m` gives `m_max`, its double, alone:
        the graph has one layer.

        One seed gives one index of the same vectors, on any number of threads. A graph or cascade
        of the same parameters is not thrown away: its links are where the new one begins, which is
        then another than one built from nothing; `build_index("none")` before it has that.

        Searches and writes go on meanwhile, `threads` (all processors by default) build. Vectors
        that come later are scanned beside the index, in full or by their codes, until it takes
        them in with the same parameters, as the class says. Where the handle may write, and there
        is space for it, it is saved in the file's checkpoint: reopening costs no rebuild.
        `index_saved` says whether it was; where not, it is used all the same until the store is
        closed. Compaction drops it but for what was built, and a backup has none: it is built anew.
        Other processes use it once they open the file, or when they would build one themselves.

        Takes a time in proportion to the vectors: of 384 dimensions about 0.2 ms each for a
        graph or a cascade, 0.03 ms for an inverted file, 0.003 ms for codes. `progress=True` shows
        a bar; a function is called with the steps that are done and all that there are, and cancels
        by returning `False`. Raises `CancelledError` then and leaves the index as it was; so does
        Ctrl-C, unless it comes when the index is in place: then a note of the exception says so.
        Raises `InvalidArgumentError` for an unknown kind and for a parameter out of range or of
        another kind; `DatabaseClosedError`.

        >>> import numpy as np
        >>> import synadb
        >>> rows = np.random.default_rng(0).standard_normal((2000, 32), dtype=np.float32)
        >>> with synadb.VectorStore("indexed.db", dimensions=32) as store:
        ...     _ = store.insert_batch([str(n) for n in range(2000)], rows)
        ...     store.build_index("gravity_well", nprobe=16)
        ...     found = store.search(rows[7], k=1, nprobe=64)[0].key
        ...     found, store.index_stats()["rows"], store.index_saved
        ('7', 2000, True)
        """
        if kind is None:
            kind = self._backend if self._backend in ("flat", "hnsw") else self._own_kind
        is_own = isinstance(kind, str) and kind.lower() == self._own_kind
        own: IndexParameters = self._own_parameters() if is_own else {}
        parameters = aimed(self._target_recall, parameters, own)
        with reporting(progress, "build index") as report:
            super()._build_index(kind, threads=threads, progress=report, **parameters)

    @property
    def index_saved(self) -> bool | None:
        """Whether the file has the index that this handle built last; `None` before it built one.

        `False` where the handle may not write, where there is no space, where something else has
        the checkpoint's name, and where `build_index` raised when its index was in place and not
        saved. A build that left the index as it was leaves this as it was, too.
        """
        return self._saved

    def _own_parameters(self) -> IndexParameters:
        """What an index of the class's own kind is built with where nothing else is given."""
        return {}

    def _own_numbers(self) -> list[int | None]:
        """`ef_search`, `nprobe`, `candidates` and `num_probes` of a search that is told nothing."""
        return [None, None, None, None]

    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        exact: bool = False,
        ef_search: int | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        num_probes: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: Literal[False] = False,
    ) -> list[list[SearchResult]]: ...
    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        exact: bool = False,
        ef_search: int | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        num_probes: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: Literal[True],
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]: ...
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        exact: bool = False,
        ef_search: int | None = None,
        nprobe: int | None = None,
        candidates: int | None = None,
        num_probes: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: bool = False,
    ) -> list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The answers of `search` to every row of `queries`, float32 of shape `(q, dimensions)`.

        A list of results for each query; with `as_arrays` keys and scores in two arrays of shape
        `(q, k)`: keys of dtype object, which are `str`, scores float32, nearest first. Where a
        query has fewer than `k` hits its row ends with `None` and infinity. The vectors are not
        read then. `threads` (all processors by default) search with the GIL released; Ctrl-C ends
        the call. Each piece of the queries sees what is stored when its turn comes.

        Raises what `search` raises, and `MemoryError` where `q` times `k` does not fit.

        >>> import synadb
        >>> with synadb.VectorStore("batch.db", dimensions=2, metric="euclidean") as store:
        ...     _ = store.insert_batch(["a", "b"], [[0.0, 0.0], [3.0, 4.0]])
        ...     keys, scores = store.search_batch([[0.0, 0.0]], k=3, as_arrays=True)
        >>> keys.tolist(), scores.tolist()
        ([['a', 'b', None]], [[0.0, 5.0, inf]])
        """
        search: Any = super().search_batch
        found: list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]] = search(
            queries,
            k,
            exact=exact,
            ef_search=ef_search,
            nprobe=nprobe,
            candidates=candidates,
            num_probes=num_probes,
            target_recall=target_recall,
            filter=filter,
            threads=threads,
            as_arrays=as_arrays,
        )
        return found

    def get_batch(
        self, keys: Iterable[str], default: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `keys`, in their order: a new float32 array `(len(keys), dimensions)`.

        All are of one moment, and bit for bit what was stored. `default`, a number or a vector of
        shape `(dimensions,)`, stands in for a key that is absent, as in `SynaDB.get_many`; without
        it such a key raises `KeyNotFoundError`, which names it. Raises `TypeError` for a set or
        a mapping, `EmptyKeyError`, `DimensionError` for a default of another length,
        `CorruptionError`, `DatabaseClosedError`.

        >>> import synadb
        >>> with synadb.VectorStore("many.db", dimensions=2) as store:
        ...     store.insert("a", [1.0, 2.0])
        ...     store.get_batch(["a", "x", "a"], default=0.0).tolist()
        [[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]
        """
        return super().get_batch(keys, default)

    def as_array(self, *, copy: bool | None = None) -> tuple[NDArray[np.float32], list[str]]:
        """Every vector and its key: `matrix, keys`, row `i` of the matrix being that of `keys[i]`.

        `matrix` is float32 of shape `(len(store), dimensions)` and read-only, in the order of the
        file. It is a view of the mapped file, page by page, unless since the last `compact()`
        vectors were deleted or replaced, single ones and batches took turns, or all is less than
        2 MiB in several places; or views that are held show some 8,000 places. Then it is a copy,
        and `matrix.flags.owndata` true. Of a view, too, what shares a page with something else is
        copied, an eighth at most. `copy=False` raises `ValueError` instead of a copy, `copy=True`
        always copies, `as_blocks` never does.

        Rows of a view are 4 times the dimensions rounded up to 64 bytes apart, so that a view is
        C-contiguous for dimensions that 16 divides. It shows what was stored when it was made,
        whatever is written, compacted, or closed later, and holds the file's old space until the
        last view is gone. Every vector is verified once. Raises `CorruptionError`,
        `DatabaseClosedError`, `MemoryError`.

        >>> import synadb
        >>> with synadb.VectorStore("matrix.db", dimensions=2) as store:
        ...     _ = store.insert_batch(["a", "b"], [[1.0, 2.0], [3.0, 4.0]])
        ...     matrix, keys = store.as_array()
        >>> matrix.tolist(), keys, matrix.flags.owndata
        ([[1.0, 2.0], [3.0, 4.0]], ['a', 'b'], False)
        """
        return super().as_array(copy=copy)

    def as_blocks(self) -> list[tuple[NDArray[np.float32], list[str]]]:
        """Every vector and its key, as views of the mapped file: a list of `matrix, keys`.

        A block is a run of live vectors that lie side by side; a deleted or replaced one ends it.
        The views are as those of `as_array`, never copies. A store of many deletes has many blocks;
        `compact()` leaves one for about 64 MiB each. Raises as `as_array`.

        >>> import synadb
        >>> with synadb.VectorStore("blocks.db", dimensions=1) as store:
        ...     _ = store.insert_batch(["a", "b", "c"], [[1.0], [2.0], [3.0]])
        ...     _ = store.delete("b")
        ...     [(matrix.tolist(), keys) for matrix, keys in store.as_blocks()]
        [([[1.0]], ['a']), ([[3.0]], ['c'])]
        """
        return super().as_blocks()

    def to_faiss(self, factory: str = "HNSW32", *, seed: int = 0) -> FaissIndex:
        """A FAISS index of the vectors; see `synadb.faiss.FaissIndex`.

        `factory` is what `faiss.index_factory` takes. Raises `ModuleNotFoundError` where
        `faiss-cpu` is not installed.
        """
        from synadb.faiss import FaissIndex

        return FaissIndex(self, factory, seed=seed)

    def index_stats(self) -> dict[str, Any] | None:
        """What the index is and holds, or `None` where there is none.

        A dict: `kind`, as `build_index` takes it; `rows`, live vectors in it; `dead`, vectors in
        it that were deleted or replaced since; `tail`, live vectors that came after it; `coded`,
        those of them that were coded since, the others are scanned in full; `pieces`, small
        inverted files that most of the coded ones are in once they are many; `seal_failure`, why
        no piece could be made of them when it was tried last, or `None`: it is tried again once
        they are a quarter more; `bytes` that it takes beside the vectors; `target_recall` that it
        was built for, or `None`; `tuned`, what was found to reach a recall: dicts of
        `target_recall`, `k`, `recall` of the sample, and the numbers of the search, without any
        where it is a scan. Raises `DatabaseClosedError`.
        """
        return super().index_stats()

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        arguments, keywords = super().__getnewargs_ex__()
        return arguments, {**keywords, "backend": self._backend}

    def checkpoint(self) -> None:
        """Returns once everything that was written is on the medium, and the index that there is.

        Writes a checkpoint beside the file for it, from which it opens fast. Raises what `flush`
        does, `DatabaseLockedError` while another process writes one, `DiskFullError`, and
        `ReadOnlyError` for a handle that may not write.
        """
        super().checkpoint()

    @property
    def metric_name(self) -> str:
        """The metric, as `metric` says."""
        return self.metric

    @property
    def backend(self) -> str:
        """The backend that was asked for."""
        return self._backend

    @property
    def resolved_backend(self) -> str:
        """The kind of the index, or `"flat"` for the exact scan."""
        stats = self.index_stats()
        return "flat" if stats is None else str(stats["kind"])

    @property
    def faiss_index_type(self) -> str:
        """The FAISS index that was named; unused by the exact scan."""
        return self._faiss_index_type

    @property
    def faiss_nprobe(self) -> int:
        """The FAISS cells to visit; unused by the exact scan."""
        return self._faiss_nprobe

    @property
    def use_gpu(self) -> bool:
        """Whether a GPU searches."""
        return False

    @property
    def is_faiss_trained(self) -> bool:
        """True: there is nothing to train without FAISS."""
        return True

    @property
    def target_recall(self) -> float | None:
        """The recall that this handle was opened for."""
        return self._target_recall

    def stats(self, usage: bool = True, *, recall: bool = False) -> StoreStats:
        """Sizes and states of the whole file, with every table in it; see `SynaDB.stats`.

        With `recall` also what share of the ten nearest a search of this store finds that is told
        nothing, under `"recall"`: a dict of `recall`, `k` (10) and `queries`, how many were tried:
        200 at most and one for eight vectors, mixed of two stored ones, the first of which counts
        as no neighbour. Costs an exact search and one through the index for each of them, on all
        processors; nothing where there is no index, and then `queries` is 0 and `recall` 1.
        """
        check_bool("recall", recall)
        stats = cast("StoreStats", super().stats(usage))
        if recall:
            found = self._recall(MEASURED_K, MEASURED_QUERIES, self._own_numbers())
            stats["recall"] = measured(found)
        return stats

    def backup(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        progress: bool | Report | None = None,
    ) -> dict[str, Any]:
        """Copies the whole file, with every table in it, to a new one; see `SynaDB.backup`."""
        with reporting(progress, "backup") as report:
            return super().backup(path, report)

    def compact(
        self,
        skip_damaged: bool = False,
        *,
        keep_history: bool | Literal["live"] | None = False,
        progress: bool | Report | None = None,
    ) -> dict[str, Any]:
        """Rewrites the whole file, with every table in it, without what is dead.

        See `SynaDB.compact`.
        """
        with reporting(progress, "compact") as report:
            return super().compact(skip_damaged, keep_history=keep_history, progress=report)

    def verify(self, progress: bool | Report | None = None) -> dict[str, Any]:
        """Reads every byte of the file against its checksums; see `SynaDB.verify`."""
        with reporting(progress, "verify") as report:
            return super().verify(report)
