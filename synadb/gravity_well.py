"""`GravityWellIndex`: a vector store that has an inverted file by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

from synadb._arguments import whole_number
from synadb._native import SearchResult
from synadb._recall import Usual
from synadb._unsynced import UnsyncedStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from synadb._index_parameters import IndexParameters
    from synadb._native import KeyFilter
    from synadb.database import SynaDB

__all__ = ["GravityWellIndex", "GwiSearchResult"]

GwiSearchResult = SearchResult
"""What `GravityWellIndex.search` finds: `key`, `score`, and the stored `vector`."""

_BRANCHING_FACTOR = 16
_LEVELS = 3
_NPROBE = Usual(50)
_CELLS_MAX = 2**31 - 1
"""No table has more rows, and so no inverted file more cells."""


class GravityWellIndex(UnsyncedStore):
    """A `VectorStore` with an inverted file (IVF), which it builds by itself.

    Each vector belongs to the cell of its nearest attractor (centroid), and a search looks at the
    nearest cells only. Every search is exact until there are 10,000 vectors, and eight for each
    attractor that was asked for, and searches have scanned them so often that it pays; a thread of
    its own builds the inverted file then, and anew as the store grows, as `VectorStore` says.
    Vectors that it does not have yet are scanned, so that every vector is found at once.
    `build_index()` builds it at once, on all processors, in about 0.03 ms for each vector.
    Reopening costs no rebuild.

    The attractors come from the sample that `initialize` got, where it is like the stored vectors,
    or else from these, when the inverted file is built. There are `num_attractors` of them, or
    `branching_factor ** num_levels`, less those that no vector is nearest to; without the first,
    and with the defaults of the others, as many as suit the vectors, which is what to take.

    `dimensions` and `metric` are those of the file; a new one has 768 and `"cosine"` unless they
    are given. `initial_capacity` is checked and has no effect: the file grows as it is written to.
    As in `MmapVectorStore`, writes return before they are on the medium unless `sync_on_write` says
    otherwise, and the file opens as any other store. `path`, `name`, `access`, `lock_timeout`,
    `maintenance` and `target_recall` are those of `VectorStore`, and so is what each call raises.

    >>> import numpy as np
    >>> import synadb
    >>> rows = np.random.default_rng(0).standard_normal((2000, 32), dtype=np.float32)
    >>> with synadb.GravityWellIndex("wells.gwi", dimensions=32, num_attractors=64) as gwi:
    ...     gwi.initialize(rows[:500])
    ...     _ = gwi.insert_batch([str(n) for n in range(2000)], rows)
    ...     gwi.build_index()
    ...     gwi.search(rows[7], k=1, nprobe=50)[0].key
    '7'
    """

    _own_kind: ClassVar[str] = "gravity_well"

    _cells: int | None
    _branching_factor: int
    _num_levels: int
    _is_initialized: bool

    def __new__(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        branching_factor: int = _BRANCHING_FACTOR,
        num_levels: int = _LEVELS,
        initial_capacity: int = 100_000,
        *,
        num_attractors: int | None = None,
        metric: str | None = None,
        sync_on_write: bool | None = None,
        name: str | None = None,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        target_recall: float | None = None,
    ) -> Self:
        factor = whole_number("branching_factor", branching_factor, 1, 65_535)
        levels = whole_number("num_levels", num_levels, 1, 255)
        whole_number("initial_capacity", initial_capacity, 0)
        cells: int | None = None
        if num_attractors is not None:
            cells = whole_number("num_attractors", num_attractors, 1)
        elif (factor, levels) != (_BRANCHING_FACTOR, _LEVELS):
            cells = factor**levels
        gwi = super().__new__(
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
        gwi._backend = cls._own_kind
        gwi._cells = None if cells is None else min(cells, _CELLS_MAX)
        gwi._want("gravity_well", cells=gwi._cells)
        gwi._branching_factor = factor
        gwi._num_levels = levels
        gwi._is_initialized = False
        return gwi

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        (path, dimensions, metric), keywords = super().__getnewargs_ex__()
        own = {
            "branching_factor": self._branching_factor,
            "num_levels": self._num_levels,
            "num_attractors": self._cells,
        }
        return (path, dimensions), {**keywords, **own, "metric": metric}

    def _own_parameters(self) -> IndexParameters:
        return {"cells": self._cells}

    def initialize(self, sample_vectors: ArrayLike) -> None:
        """Takes the attractors from a sample, float32 of shape `(n, dimensions)`, `n` at least 1.

        Where there are vectors, it builds the inverted file of them anew. This handle copies the
        sample and keeps it for every build that begins anew; one that takes new vectors in keeps
        the attractors that there are, and so does another handle, a pickle too. A sample that
        is unlike the stored vectors costs time and no recall: where theirs would be much nearer to
        them, they are taken in its place, by each build anew. Repeatable, and not needed: without
        it attractors come from the stored vectors. Raises `InvalidArgumentError` for no vector,
        `DimensionError`, `InvalidVectorError`, and what `build_index` does.
        """
        self._keep_sample(sample_vectors)
        if len(self):
            self.build_index()
        self._is_initialized = True

    def search(
        self,
        query: ArrayLike,
        k: int = 10,
        nprobe: int | None = _NPROBE,
        *,
        exact: bool = False,
        ef_search: int | None = None,
        candidates: int | None = None,
        num_probes: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
    ) -> list[SearchResult]:
        """The `k` stored vectors nearest to `query`, shape `(dimensions,)`, nearest first.

        Looks at the `nprobe` nearest cells, and at more where these hold fewer than `k`: `k` are
        found whenever there are so many. Without the number it looks at 50 or, where vectors have
        so little structure that these hold too few of the nearest, at as many as a build found to
        be enough. `candidates` of what it sees there are compared in full.
        With `exact` it looks at every vector, with `target_recall`, of the search, the store or the
        index, at as many as find so much of the `k` nearest. See `VectorStore.search`.
        """
        return super().search(
            query,
            k,
            exact=exact,
            ef_search=ef_search,
            nprobe=None if isinstance(nprobe, Usual) else nprobe,
            candidates=candidates,
            num_probes=num_probes,
            target_recall=target_recall,
            filter=filter,
        )

    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        nprobe: int | None = _NPROBE,
        *,
        exact: bool = False,
        ef_search: int | None = None,
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
        nprobe: int | None = _NPROBE,
        *,
        exact: bool = False,
        ef_search: int | None = None,
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
        nprobe: int | None = _NPROBE,
        *,
        exact: bool = False,
        ef_search: int | None = None,
        candidates: int | None = None,
        num_probes: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: bool = False,
    ) -> list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The answers of `search` to every row of `queries`; see `VectorStore.search_batch`."""
        search: Any = super().search_batch
        found: list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]] = search(
            queries,
            k,
            exact=exact,
            ef_search=ef_search,
            nprobe=None if isinstance(nprobe, Usual) else nprobe,
            candidates=candidates,
            num_probes=num_probes,
            target_recall=target_recall,
            filter=filter,
            threads=threads,
            as_arrays=as_arrays,
        )
        return found

    def save(self) -> None:
        """The same as `checkpoint`: everything is on the medium, the inverted file too."""
        self.checkpoint()

    @property
    def branching_factor(self) -> int:
        """The branching factor that this handle was told."""
        return self._branching_factor

    @property
    def num_levels(self) -> int:
        """The number of levels that this handle was told."""
        return self._num_levels

    @property
    def num_clusters(self) -> int:
        """Cells of the inverted file; before there is one, those that were asked for."""
        sizes = self._cell_sizes()
        if sizes is not None:
            return len(sizes)
        if self._cells is not None:
            return self._cells
        return int(self._branching_factor**self._num_levels)

    @property
    def initialized(self) -> bool:
        """Whether there is an inverted file, or `initialize` was called on this handle."""
        return self._is_initialized or self.has_index
