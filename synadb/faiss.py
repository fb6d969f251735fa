"""FAISS over a store's vectors: `store.to_faiss(...)`, kept beside the store, and `from_faiss`.

Needs the package `faiss-cpu`, which is loaded when it is first used. Scores are the store's own
distances: smaller is nearer.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from synadb._arguments import INVALID_ARGUMENT
from synadb._faiss_file import Saved, read, write
from synadb._faiss_parameters import nearest
from synadb._native import KeyFilter
from synadb.errors import (
    ConfigMismatchError,
    CorruptionError,
    DimensionError,
    InvalidArgumentError,
    InvalidVectorError,
)
from synadb.vectors import VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from synadb.database import SynaDB

__all__ = ["FaissIndex", "Found", "from_faiss"]

_CORRUPTION = -4
_CONFIG_MISMATCH = -11
_DIMENSION = -12
_INVALID_VECTOR = -13

_ROWS_AT_ONCE = 1 << 14
_TRAINING_ROWS = 1 << 16
_ROWS_PER_CELL = 256
_DEAD_SHARE = 0.5


class Found(NamedTuple):
    """A key that a search found, and its distance from the query."""

    key: str
    score: float


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise ModuleNotFoundError(
            "synadb.faiss needs the package faiss-cpu: pip install 'synadb[faiss]'", name="faiss"
        ) from None
    return faiss


def _invalid(argument: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(INVALID_ARGUMENT, f"{argument}: {reason}")


class FaissIndex:
    """A FAISS index of a store's vectors, by the store's keys.

    `factory` is any string of `faiss.index_factory`, such as `"Flat"`, `"HNSW32"` or
    `"IVF1024,Flat"`. The vectors go to FAISS from the mapped file, in pieces; a whole block goes
    without a copy where 16 divides the dimensions and the metric is not cosine. FAISS keeps what
    its kind of index keeps. Metrics: euclidean is FAISS's L2, with the root taken; dot product its
    inner product, negated; cosine its inner product of vectors at unit length, taken from 1.

    Every search first does `refresh()`: vectors that were added are added to the index, those
    that were deleted or replaced are passed over, and after a compaction both are found by
    comparing keys and commits. When half of the index is dead it is built anew. One object serves
    one thread at a time. `index` is the FAISS index itself, for its parameters; row `i` of it is
    what `keys[i]` had.

    Raises `ModuleNotFoundError` without `faiss-cpu`, `InvalidArgumentError` for a factory string
    that FAISS refuses, that needs more vectors to train on than there are, or takes ids (`IDMap`);
    `CorruptionError`, `DatabaseClosedError`.

    >>> import synadb
    >>> with synadb.VectorStore("f.db", dimensions=2, metric="euclidean") as store:
    ...     _ = store.insert_batch(["a", "b"], [[0.0, 0.0], [3.0, 4.0]])
    ...     near = store.to_faiss("Flat")
    ...     _ = store.delete("a")
    ...     near.search([0.0, 0.0], k=2)
    [Found(key='b', score=5.0)]
    """

    _live: tuple[tuple[int, int], Any] | None = None
    _is_whole = True
    """Whether FAISS and the keys have the same rows: not while some are added."""

    def __init__(self, store: VectorStore, factory: str = "HNSW32", *, seed: int = 0) -> None:
        if not isinstance(factory, str):
            raise TypeError(f"factory must be a str, got {type(factory).__name__!r}")
        self.store = store
        self.factory = factory
        self.seed = seed
        self.rebuild()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"FaissIndex({self.factory!r}, {len(self)} keys of {self.store.path!r})"

    def rebuild(self) -> None:
        """Builds the index anew, of what is stored now."""
        faiss = _faiss()
        store = self.store
        is_l2 = store.metric == "euclidean"
        metric = faiss.METRIC_L2 if is_l2 else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(store.dimensions, self.factory, metric)
        except RuntimeError as error:
            raise _invalid("factory", f"FAISS refuses {self.factory!r}: {error}") from None
        changed = store._changes()
        assert changed is not None
        mark, added, _ = changed
        if not index.is_trained and added:
            self._train(index, [view for view, _, _ in added])
        self._is_whole = False
        self.index = index
        self.keys: list[str] = []
        self._versions: list[int] = []
        self._rows: dict[str, int] = {}
        self._mark: bytes | None = None
        self._live = None
        self._add(added)
        self._mark = mark

    def _train(self, index: Any, views: list[NDArray[np.float32]]) -> None:
        """Trains on all vectors where they lie, or on a sample of them."""
        import numpy as np

        wanted = _TRAINING_ROWS
        with contextlib.suppress(RuntimeError):
            wanted = max(wanted, _ROWS_PER_CELL * _faiss().extract_index_ivf(index).nlist)
        total = sum(map(len, views))
        random = np.random.default_rng(self.seed)
        sample = [
            view
            if total <= wanted
            else view[np.sort(random.choice(len(view), len(view) * wanted // total, False))]
            for view in views
        ]
        rows = sample[0] if len(sample) == 1 else np.concatenate(sample)
        try:
            index.train(self._prepared(rows))
        except RuntimeError as error:
            reason = f"{self.factory!r} cannot be trained on {len(rows)} vectors: {error}"
            raise _invalid("factory", reason) from None

    def _prepared(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows as FAISS takes them: side by side, for cosine at unit length."""
        import numpy as np

        if self.store.metric != "cosine":
            return np.ascontiguousarray(rows)
        # In double precision: the square of a float32 may be beyond float32.
        wide = rows.astype(np.float64)
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        norms[norms == 0] = 1
        return np.ascontiguousarray((wide / norms).astype(np.float32))

    def _add(self, added: list[tuple[NDArray[np.float32], list[str], NDArray[np.uint64]]]) -> None:
        self._is_whole = False
        for view, keys, versions in added:
            whole = self.store.metric != "cosine" and view.flags.c_contiguous
            step = len(view) if whole else _ROWS_AT_ONCE
            for at in range(0, len(view), step):
                rows = self._prepared(view[at : at + step])
                try:
                    self.index.add(rows)
                except RuntimeError as error:
                    reason = f"{self.factory!r} takes no vectors: {error}"
                    raise _invalid("factory", reason) from None
                first = len(self.keys)
                names = keys[at : at + step]
                self.keys += names
                self._versions += versions[at : at + step].tolist()
                self._rows.update(zip(names, range(first, first + len(names)), strict=True))
        self._is_whole = True

    def refresh(self) -> tuple[int, int]:
        """Takes in what was written since; how many vectors came, and how many went."""
        changed = self.store._changes(self._mark) if self._mark else None
        if changed is None:
            return self._compared()
        mark, added, removed = changed
        for key in removed:
            self._rows.pop(key, None)
        return self._taken(mark, added, len(removed))

    def _compared(self) -> tuple[int, int]:
        """As `refresh`, where rows have other numbers: by key and commit."""
        import numpy as np

        changed = self.store._changes()
        assert changed is not None
        mark, blocks, _ = changed
        live: dict[str, int] = {}
        added = []
        for view, keys, versions in blocks:
            numbers = versions.tolist()
            live.update(zip(keys, numbers, strict=True))
            new = [
                place
                for place, (key, version) in enumerate(zip(keys, numbers, strict=True))
                if (row := self._rows.get(key)) is None or self._versions[row] != version
            ]
            if new:
                chosen = np.array(new)
                added.append((view[chosen], [keys[place] for place in new], versions[chosen]))
        gone = [key for key, row in self._rows.items() if live.get(key) != self._versions[row]]
        for key in gone:
            del self._rows[key]
        return self._taken(mark, added, len(gone))

    def _taken(
        self,
        mark: bytes | None,
        added: list[tuple[NDArray[np.float32], list[str], NDArray[np.uint64]]],
        gone: int,
    ) -> tuple[int, int]:
        came = sum(len(keys) for _, keys, _ in added)
        total = len(self.keys) + came
        untrained = came > 0 and not self.index.is_trained
        is_dead = len(self._rows) + came < (1 - _DEAD_SHARE) * total
        if untrained or is_dead or not self._is_whole:
            self.rebuild()
        else:
            self._add(added)
            self._mark = mark
        return came, gone

    def selector(
        self, among: KeyFilter | Iterable[str] | Callable[[str], bool] | None = None
    ) -> Any:
        """A `faiss.IDSelector` of the live rows: all, or those that `among` says.

        That is a `KeyFilter`, some keys, or a function that is asked for each key.
        Keys that are not in the index are passed over.
        """
        import numpy as np

        if isinstance(among, str | bytes | type):
            name = type(among).__name__
            raise TypeError(f"among must be an iterable of str or a function, got '{name}'")
        if among is None:
            rows = list(self._rows.values())
        elif isinstance(among, KeyFilter):
            rows = [row for key, row in self._rows.items() if key in among]
        elif callable(among):
            rows = [row for key, row in self._rows.items() if among(key)]
        else:
            wanted = set(among)
            wrong = [key for key in wanted if not isinstance(key, str)]
            if wrong:
                raise TypeError(f"among must hold str, got {wrong[0]!r}")
            rows = [self._rows[key] for key in wanted if key in self._rows]
        bits = np.zeros(len(self.keys), dtype=bool)
        bits[rows] = True
        return _faiss().IDSelectorBitmap(np.packbits(bits, bitorder="little"))

    def _live_selector(self) -> Any:
        """That of all live rows, made anew when rows came or went."""
        # Rows are only ever added to `keys` and taken out of `_rows`, until the index is rebuilt.
        state = (len(self.keys), len(self._rows))
        if self._live is None or self._live[0] != state:
            self._live = (state, self.selector())
        return self._live[1]

    def search(
        self,
        query: ArrayLike,
        k: int = 10,
        *,
        among: KeyFilter | Iterable[str] | Callable[[str], bool] | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        k_factor: float | None = None,
    ) -> list[Found]:
        """The `k` nearest that FAISS finds, nearest first; see `search_batch`."""
        import numpy as np

        keys, scores = self.search_batch(
            np.asarray(query, dtype=np.float32).reshape(1, -1),
            k,
            among=among,
            nprobe=nprobe,
            ef_search=ef_search,
            k_factor=k_factor,
        )
        pairs = zip(keys[0].tolist(), scores[0].tolist(), strict=True)
        return [Found(key, score) for key, score in pairs if key is not None]

    def search_batch(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        among: KeyFilter | Iterable[str] | Callable[[str], bool] | None = None,
        nprobe: int | None = None,
        ef_search: int | None = None,
        k_factor: float | None = None,
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """Keys and scores, both `(q, k)`, for float32 queries of shape `(q, dimensions)`.

        As `VectorStore.search_batch(..., as_arrays=True)` gives them: keys of dtype object, padded
        with `None`, and float32 distances, padded with infinity. `among` are the keys that count:
        a `KeyFilter`, keys, or a function that is asked for each; `nprobe`, `ef_search` and
        `k_factor` go to the parts of the index that have them. A filter goes to FAISS as an
        `IDSelector`; where the kind of index takes none, more is asked for until enough remains.

        Raises `DimensionError`, `InvalidVectorError` for NaN and infinity, and
        `InvalidArgumentError` for a negative `k`.
        """
        import numpy as np

        rows = np.atleast_2d(np.asarray(queries, dtype=np.float32))
        wide = self.store.dimensions
        if rows.ndim != 2 or (rows.size and rows.shape[1] != wide):
            message = f"Queries have shape {list(rows.shape)}, expected [rows, {wide}]"
            raise DimensionError(_DIMENSION, message)
        if not np.isfinite(rows).all():
            raise InvalidVectorError(
                _INVALID_VECTOR, "Invalid query: a component is NaN or infinite"
            )
        if k < 0:
            raise _invalid("k", f"it must be 0 or more, got {k}")
        self.refresh()
        names = np.full((len(rows), k), None, dtype=object)
        scores = np.full((len(rows), k), np.inf, dtype=np.float32)
        given = {"nprobe": nprobe, "ef_search": ef_search, "k_factor": k_factor}
        given = {name: value for name, value in given.items() if value is not None}
        most = min(k, len(self.keys))
        if not rows.size or not most or not self._rows:
            return names, scores
        raw, ids = self._nearest(self._prepared(rows), most, among, given)
        for row, places in zip(names, ids.tolist(), strict=True):
            row[:most] = [self.keys[place] if place >= 0 else None for place in places]
        scores[:, :most] = np.where(ids >= 0, self._distances(raw), np.float32(np.inf))
        return names, scores

    def _nearest(
        self, queries: NDArray[np.float32], k: int, among: Any, given: dict[str, Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's own distances and rows, -1 where there are none."""
        if among is not None:
            selector = self.selector(among)
        elif len(self._rows) == len(self.keys):
            selector = None
        else:
            selector = self._live_selector()
        return nearest(_faiss(), self.index, queries, k, selector, given)

    def _distances(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """FAISS's scores as those of the store."""
        import numpy as np

        if self.store.metric == "euclidean":
            return np.sqrt(np.maximum(raw, 0))
        return -raw if self.store.metric == "dot_product" else 1 - raw

    def _place(self, path: str | os.PathLike[str] | None) -> Path:
        return Path(os.fsdecode(self.store.path) + "-faiss" if path is None else path)

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Saves the index, by default in a file `-faiss` beside the store.

        The store is synced first; the file is written aside, synced and renamed.
        """
        import numpy as np

        self.refresh()
        # A commit that a power cut takes back would leave its number to another one.
        self.store.flush()
        live = np.zeros(len(self.keys), dtype=bool)
        live[list(self._rows.values())] = True
        saved = Saved(
            self.factory,
            self.seed,
            self.store._identity(),
            self.store.metric,
            self.store.dimensions,
            self.keys,
            self._versions,
            live,
            _faiss().serialize_index(self.index),
        )
        write(self._place(path), saved)

    @classmethod
    def load(cls, store: VectorStore, path: str | os.PathLike[str] | None = None) -> FaissIndex:
        """Opens what `save` wrote, and takes in what the store has got since.

        Nothing is unpickled. The parts are checked against checksums, which tell damage and not
        malice; the index itself is then read by FAISS's own code, which trusts it: load only files
        that you, or whom you trust, have written. Raises `CorruptionError` for a damaged file,
        `ConfigMismatchError` for one of another store: of another file, even if it was made at the
        same path, of another table, metric or dimensions; `OSError` where it cannot be read.
        """
        import numpy as np

        faiss = _faiss()
        self = cls.__new__(cls)
        self.store = store
        place = self._place(path)
        saved = read(place)
        if (saved.metric, saved.dimensions) != (store.metric, store.dimensions):
            message = (
                f"{place}: the index is of {saved.dimensions} dimensions, {saved.metric}; the "
                f"store of {store.dimensions}, {store.metric}"
            )
            raise ConfigMismatchError(_CONFIG_MISMATCH, message)
        here = store._identity()
        # Where either has no vector yet there is nothing to be mistaken.
        if saved.keys and here[0] and saved.store != here:
            message = f"{place}: the index is of table {saved.store[1]!r} of database "
            message += f"{saved.store[0]}; the store is table {here[1]!r} of {here[0]}"
            raise ConfigMismatchError(_CONFIG_MISMATCH, message)
        try:
            self.index = faiss.deserialize_index(saved.serialized)
        except RuntimeError as error:
            raise CorruptionError(_CORRUPTION, f"{place}: FAISS: {error}") from None
        if (self.index.ntotal, self.index.d) != (len(saved.keys), store.dimensions):
            raise CorruptionError(_CORRUPTION, f"{place}: its index is of other vectors")
        self.factory, self.seed = saved.factory, saved.seed
        self.keys, self._versions = saved.keys, saved.versions
        self._rows = {self.keys[row]: row for row in np.flatnonzero(saved.live).tolist()}
        self._mark = None
        self.refresh()
        return self


def from_faiss(
    index: Any,
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | SynaDB,
    keys: Iterable[str] | None = None,
    *,
    metric: str | None = None,
    name: str | None = None,
) -> VectorStore:
    """A store at `path` with the vectors of a FAISS index, as the index gives them back.

    `keys` name the rows in order, by default their numbers, or ids where the index has such (an
    `IDMap`). `metric` is by default that of the index: L2 is euclidean, inner product
    dot_product; `"cosine"` may be said of an index of unit vectors. An index that compresses gives
    approximations back. Existing keys are replaced.

    Raises `TypeError` for keys that are one `str`, or that have no order (a set, a mapping);
    `InvalidArgumentError` where there are more or fewer keys than vectors, for a metric
    that a store has not, and where the index gives no vectors back; as `VectorStore` and
    `insert_batch`.
    """
    faiss = _faiss()
    index = faiss.downcast_index(index)
    ids = range(index.ntotal)
    inner = index
    if isinstance(index, faiss.IndexIDMap | faiss.IndexIDMap2):
        ids = faiss.vector_to_array(index.id_map).tolist()
        inner = faiss.downcast_index(index.index)
    if isinstance(keys, str | bytes | Set | Mapping):
        raise TypeError(f"keys must be an ordered iterable of str, got {type(keys).__name__!r}")
    names = [str(number) for number in ids] if keys is None else list(keys)
    if len(names) != index.ntotal:
        raise _invalid("keys", f"{len(names)} keys were given for {index.ntotal} vectors")
    metrics = {faiss.METRIC_L2: "euclidean", faiss.METRIC_INNER_PRODUCT: "dot_product"}
    metric = metric or metrics.get(index.metric_type)
    if metric is None:
        raise _invalid("index", f"a store has no metric of FAISS's number {index.metric_type}")
    with contextlib.suppress(RuntimeError):
        faiss.extract_index_ivf(inner).make_direct_map()
    try:
        inner.reconstruct_n(0, min(1, len(names)))
    except RuntimeError as error:
        raise _invalid("index", f"it gives no vectors back: {error}") from None
    store = VectorStore(path, index.d, metric, name=name)
    for at in range(0, len(names), _ROWS_AT_ONCE):
        piece = names[at : at + _ROWS_AT_ONCE]
        store.insert_batch(piece, inner.reconstruct_n(at, len(piece)))
    return store
