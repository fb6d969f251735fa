"""`CascadeIndex`: a vector store that has a cascade by itself."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast, overload

from synadb import _native
from synadb._arguments import INVALID_ARGUMENT
from synadb._native import SearchResult
from synadb._recall import check_only_one
from synadb._unsynced import UnsyncedStore
from synadb.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from synadb._index_parameters import IndexParameters
    from synadb._native import KeyFilter
    from synadb.database import SynaDB

__all__ = ["CascadeConfig", "CascadeIndex", "CascadeSearchResult", "SearchResult"]

CascadeSearchResult = SearchResult
"""What `CascadeIndex.search` finds: `key`, `score`, and the stored `vector`."""

_STANDARD = _native.cascade_parameters()


@dataclass(frozen=True)
class CascadeConfig:
    """How a `CascadeIndex` is built and searched; what each number is, the index says.

    >>> from synadb.cascade import CascadeConfig
    >>> CascadeConfig.small().num_hyperplanes, CascadeConfig(nprobe=40).nprobe
    (5, 40)
    """

    num_hyperplanes: int = _STANDARD["num_hyperplanes"]
    num_tables: int = _STANDARD["num_tables"]
    bucket_capacity: int = _STANDARD["bucket_capacity"]
    max_bucket_depth: int = _STANDARD["max_bucket_depth"]
    graph_neighbors: int = _STANDARD["graph_neighbors"]
    nprobe: int = _STANDARD["num_probes"]
    ef_search: int = _STANDARD["ef_search"]

    @classmethod
    def small(cls) -> Self:
        """For less than 100,000 vectors: recall@10 of .95 and more."""
        return cls._of(_native.cascade_parameters(preset="small"))

    @classmethod
    def large(cls) -> Self:
        """For a million vectors and more: recall@10 of .95 and more."""
        return cls._of(_native.cascade_parameters(preset="large"))

    @classmethod
    def high_recall(cls) -> Self:
        """Where every neighbour counts: recall@10 of .99 and more."""
        return cls._of(_native.cascade_parameters(preset="high_recall"))

    @classmethod
    def fast_search(cls) -> Self:
        """Where every microsecond counts: recall@10 of .90 and more."""
        return cls._of(_native.cascade_parameters(preset="fast_search"))

    @classmethod
    def _of(cls, built: dict[str, Any]) -> Self:
        others = ("seed", "quantization")
        numbers = {name: value for name, value in built.items() if name not in others}
        return cls(nprobe=numbers.pop("num_probes"), **numbers)


class CascadeIndex(UnsyncedStore):
    """A `VectorStore` with a cascade, which it builds by itself: hyperplanes, buckets, a graph.

    `num_tables` times, `num_hyperplanes` hyperplanes divide the vectors into buckets, and a bucket
    of more than `bucket_capacity` is split again, `max_bucket_depth` times at most. A search looks
    into the `num_probes` buckets where it most likely finds its neighbours (`nprobe` is another
    name), and walks from there through a graph of `graph_neighbors` links a vector, with a queue of
    `ef_search` vectors: recall and time grow with it.

    `preset` names a set of these numbers: `"small"` is for less than 100,000 vectors, `"large"`
    for a million and more, both for a recall@10 of .95 on real embeddings, `"high_recall"` for .99,
    `"fast_search"` for .90. Numbers that are given beside it replace its own; `config`, a
    `CascadeConfig`, gives all of them. Without either they are those of the cascade that the file
    has, or by default. `num_probes` and `ef_search` of the constructor, or of its preset, are what
    a search does that is not told otherwise. `target_recall` is that of `VectorStore`, goes before
    the numbers of a preset, and cannot be given beside either of these two.

    Every search is exact until there are 10,000 vectors and searches have scanned them so often
    that it pays; a thread of its own builds the cascade then, and anew as the store grows, as
    `VectorStore` says. Vectors that it does not have yet are scanned, so that every vector is found
    at once. `build_index()` builds it at once, on all processors, in about 0.2 ms for each vector.
    Reopening costs no rebuild.

    `dimensions` and `metric` are those of the file; a new one has 768 and `"cosine"` unless they
    are given. As in `MmapVectorStore`, writes return before they are on the medium unless
    `sync_on_write` says otherwise, and the file opens as any other store. `path`, `name`, `access`,
    `lock_timeout` and `maintenance` are those of `VectorStore`, and so is what each call raises;
    `InvalidArgumentError` for an unknown preset and for a number out of range.

    >>> import numpy as np
    >>> import synadb
    >>> rows = np.random.default_rng(0).standard_normal((2000, 32), dtype=np.float32)
    >>> with synadb.CascadeIndex("points.cascade", dimensions=32, preset="small") as index:
    ...     _ = index.insert_batch([str(n) for n in range(2000)], rows)
    ...     index.build_index()
    ...     index.save()
    ...     index.search(rows[7], k=1)[0].key
    '7'
    """

    _own_kind: ClassVar[str] = "cascade"

    _given: IndexParameters
    """What the constructor was told, by the names of `build_index`."""
    _num_probes: int | None
    _ef_search: int | None

    def __new__(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
        dimensions: int | None = None,
        metric: str | None = None,
        num_probes: int | None = None,
        ef_search: int | None = None,
        *,
        preset: str | None = None,
        config: CascadeConfig | None = None,
        num_hyperplanes: int | None = None,
        num_tables: int | None = None,
        bucket_capacity: int | None = None,
        max_bucket_depth: int | None = None,
        graph_neighbors: int | None = None,
        nprobe: int | None = None,
        sync_on_write: bool | None = None,
        name: str | None = None,
        access: str = "shared",
        lock_timeout: float | None = None,
        maintenance: str = "thread",
        target_recall: float | None = None,
    ) -> Self:
        numbers: IndexParameters = {
            "num_hyperplanes": num_hyperplanes,
            "num_tables": num_tables,
            "bucket_capacity": bucket_capacity,
            "max_bucket_depth": max_bucket_depth,
            "graph_neighbors": graph_neighbors,
            "num_probes": _probes(num_probes, nprobe),
            "ef_search": ef_search,
        }
        check_only_one(target_recall, numbers)
        given = _given(preset, config, numbers)
        resolved = _native.cascade_parameters(**given)
        index = super().__new__(
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
        index._backend = cls._own_kind
        index._given = given
        index._num_probes = index._ef_search = None
        if preset is not None or "num_probes" in given:
            index._num_probes = resolved["num_probes"]
        if preset is not None or "ef_search" in given:
            index._ef_search = resolved["ef_search"]
        index._want(cls._own_kind, **index._own_parameters())
        return index

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        (path, dimensions, metric), keywords = super().__getnewargs_ex__()
        return (path, dimensions), {**keywords, **self._given, "metric": metric}

    def _own_parameters(self) -> IndexParameters:
        built: Any = self._cascade() or {}
        if "preset" in self._given:
            # It stands for all of the numbers.
            built = {name: built[name] for name in ("seed", "quantization") if name in built}
        return {**built, **self._given}

    def _own_numbers(self) -> list[int | None]:
        return [self._ef_search, None, None, self._num_probes]

    def _numbers(
        self, num_probes: int | None, ef_search: int | None, target_recall: float | None
    ) -> dict[str, int | None]:
        """The numbers that were given, and the constructor's where no recall takes their place."""
        told = num_probes is not None or ef_search is not None
        if target_recall is None and (told or self._aim is None):
            num_probes = self._num_probes if num_probes is None else num_probes
            ef_search = self._ef_search if ef_search is None else ef_search
        return {"num_probes": num_probes, "ef_search": ef_search}

    @property
    def config(self) -> CascadeConfig:
        """What the cascade was built with; before there is one, what is to be built."""
        return CascadeConfig._of(
            self._cascade() or _native.cascade_parameters(**self._own_parameters())
        )

    def search(
        self,
        query: ArrayLike,
        k: int = 10,
        num_probes: int | None = None,
        ef_search: int | None = None,
        *,
        exact: bool = False,
        nprobe: int | None = None,
        candidates: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
    ) -> list[SearchResult]:
        """The `k` stored vectors nearest to `query`, shape `(dimensions,)`, nearest first.

        Looks into `num_probes` buckets and walks with a queue of `ef_search` vectors; without them
        as the constructor was told. `k` are found whenever there are so many. With `exact` it looks
        at every vector, with `target_recall`, of the search, the store or the index, at as many as
        find so much of the `k` nearest. See `VectorStore.search`.
        """
        probes = _probes(num_probes, nprobe)
        return super().search(
            query,
            k,
            exact=exact,
            candidates=candidates,
            target_recall=target_recall,
            filter=filter,
            **self._numbers(probes, ef_search, target_recall),
        )

    @overload
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        num_probes: int | None = None,
        ef_search: int | None = None,
        *,
        exact: bool = False,
        nprobe: int | None = None,
        candidates: int | None = None,
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
        num_probes: int | None = None,
        ef_search: int | None = None,
        *,
        exact: bool = False,
        nprobe: int | None = None,
        candidates: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: Literal[True],
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]: ...
    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        num_probes: int | None = None,
        ef_search: int | None = None,
        *,
        exact: bool = False,
        nprobe: int | None = None,
        candidates: int | None = None,
        target_recall: float | None = None,
        filter: KeyFilter | Iterable[str] | None = None,
        threads: int | None = None,
        as_arrays: bool = False,
    ) -> list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]]:
        """The answers of `search` to every row of `queries`; see `VectorStore.search_batch`."""
        probes = _probes(num_probes, nprobe)
        search: Any = super().search_batch
        found: list[list[SearchResult]] | tuple[NDArray[np.object_], NDArray[np.float32]] = search(
            queries,
            k,
            exact=exact,
            candidates=candidates,
            target_recall=target_recall,
            filter=filter,
            **self._numbers(probes, ef_search, target_recall),
            threads=threads,
            as_arrays=as_arrays,
        )
        return found

    def save(self) -> None:
        """The same as `checkpoint`: everything is on the medium, the cascade too."""
        self.checkpoint()


def _probes(num_probes: int | None, nprobe: int | None) -> int | None:
    """The number that two names have."""
    if num_probes is None or nprobe is None or num_probes == nprobe:
        return nprobe if num_probes is None else num_probes
    raise InvalidArgumentError(
        INVALID_ARGUMENT,
        f"nprobe: it is another name of num_probes, and they are {nprobe!r} and {num_probes!r}",
    )


def _given(
    preset: str | None, config: CascadeConfig | None, numbers: IndexParameters
) -> IndexParameters:
    """What was given of a preset or a configuration, and of numbers beside it."""
    explicit: Any = {name: number for name, number in numbers.items() if number is not None}
    if config is None:
        if preset is not None:
            explicit["preset"] = preset
        return cast("IndexParameters", explicit)
    if not isinstance(config, CascadeConfig):
        raise TypeError(f"config must be a CascadeConfig, got {type(config).__name__!r}")
    if preset is not None:
        raise InvalidArgumentError(
            INVALID_ARGUMENT, f"preset: config has all numbers, and preset is {preset!r}"
        )
    whole: Any = asdict(config)
    whole["num_probes"] = whole.pop("nprobe")
    return cast("IndexParameters", {**whole, **explicit})
