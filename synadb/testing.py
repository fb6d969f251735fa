"""What every store of vectors is held to: `check_vector_store`.

The checks compare what a store finds with the definition, in float64 over all vectors, and look at
what it refuses. They are those of synadb's own stores, with every kind of index, and are for stores
of others too: wrappers, subclasses, adapters.

>>> import synadb
>>> from synadb.testing import check_vector_store
>>> check_vector_store(synadb.VectorStore, metrics=["cosine"], checks=["empty", "duplicates"])
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from synadb._arguments import INVALID_ARGUMENT
from synadb.errors import DimensionError, InvalidArgumentError, InvalidVectorError, KeyNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

METRICS = ("cosine", "euclidean", "dot_product")
"""The metrics that are checked by default."""

_DIMENSIONS = 24
_ROWS = 600
_MANY = 6000
"""More than synadb's graphs and cascades scan at the queues that they are built with: they walk."""
_QUERIES = 20
_OPERATIONS = 3000


class Store(Protocol):
    """What the checks call. Answers have `key` and `score`; a smaller score is nearer."""

    def insert(self, key: str, vector: Any) -> object:
        """Stores a vector; an existing key's is replaced."""

    def insert_batch(self, keys: Any, vectors: Any) -> object:
        """Stores the rows of an array, all or none."""

    def update(self, key: str, vector: Any) -> object:
        """Replaces the vector of a key that there is."""

    def delete(self, key: str) -> bool:
        """Deletes a key; whether there was one."""

    def get(self, key: str) -> Any:
        """The vector of a key, bit for bit, or `None`."""

    def search(self, query: Any, k: int = 10, *, filter: Any = None) -> Any:
        """The nearest, nearest first; with `filter`, keys, only among these."""

    def search_batch(self, queries: Any, k: int = 10) -> Any:
        """The answers of `search` to every row."""

    def close(self) -> object:
        """Closes the store."""

    def __len__(self) -> int:
        """Count of keys."""

    def __contains__(self, key: Any) -> bool:
        """Whether there is such a key."""


def check_vector_store(
    make_store: Callable[[Path, int, str], Store],
    index: Callable[[Any], object] | None = None,
    *,
    metrics: Iterable[str] = METRICS,
    checks: Iterable[str] | None = None,
    recall: float = 0.95,
) -> None:
    """Holds a store to the checks, each in files of its own in a temporary directory.

    `make_store(path, dimensions, metric)` makes an empty store in a file that does not exist, and
    opens the one that it made there before. `index(store)`, if given, is called each time after
    vectors were written, to build an index. `checks` are names of `CHECKS`, all of them by default.
    `recall` is the share of the ten nearest that must be found of vectors with structure, 0 to 1;
    without an index, and of stores of some vectors, all must be. For the check `same_again` an
    index is built with one seed, and on one thread where the number of them shows in its answers.

    Takes some seconds for all checks of a metric. Raises `AssertionError`, with the check, the
    metric and what was wrong, and what the store raises; `InvalidArgumentError` for an unknown
    metric or check, and for a recall out of range.
    """
    wanted, asked = tuple(metrics), tuple(CHECKS if checks is None else checks)
    for name, values, known in (("metrics", wanted, METRICS), ("checks", asked, tuple(CHECKS))):
        for value in values:
            if value not in known:
                reason = f"{name}: {value!r} is unknown; it must be one of: {', '.join(known)}"
                raise InvalidArgumentError(INVALID_ARGUMENT, reason)
    if not 0.0 <= recall <= 1.0:
        raise InvalidArgumentError(INVALID_ARGUMENT, f"recall: it must be 0 to 1, got {recall}")
    for metric in wanted:
        for check in asked:
            with tempfile.TemporaryDirectory() as folder:
                subject = _Subject(make_store, index, Path(folder), metric, recall)
                try:
                    CHECKS[check](subject)
                except AssertionError as error:
                    error.add_note(f"in the check {check!r} of the metric {metric!r}")
                    raise
                finally:
                    subject.close()


class _Subject:
    """A store with what it should hold, and the definition of its answers."""

    def __init__(
        self,
        make: Callable[[Path, int, str], Store],
        index: Callable[[Any], object] | None,
        folder: Path,
        metric: str,
        recall: float,
    ) -> None:
        self._make, self._index, self._folder = make, index, folder
        self.metric, self._floor = metric, recall
        self._path = folder / "checked.db"
        self.held: dict[str, NDArray[np.float32]] = {}
        self._store: Store | None = None
        self._found = self._wanted = 0

    @property
    def store(self) -> Store:
        """The store, opened when it is first asked for."""
        if self._store is None:
            self._store = self._make(self._path, _DIMENSIONS, self.metric)
        return self._store

    def close(self) -> None:
        """Closes the store; the next use opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def begin(self, name: str) -> None:
        """Goes on with an empty store, in another file."""
        self.close()
        self.held.clear()
        self._path = self._folder / f"{name}.db"

    def fill(self, rows: NDArray[np.float32], first: int = 0) -> None:
        """Stores rows under numbers and has the index built."""
        keys = [f"k{n}" for n in range(first, first + len(rows))]
        self.store.insert_batch(keys, rows)
        self.held.update(zip(keys, rows, strict=True))
        self.build()

    def build(self) -> None:
        """Has the index built, where there is one."""
        if self._index is not None:
            self._index(self.store)

    def delete(self, key: str) -> None:
        """Deletes a key that there is."""
        require(self.store.delete(key), f"{key!r} was not deleted")
        del self.held[key]

    def distances(
        self, query: NDArray[np.float32], vectors: Sequence[NDArray[np.float32]]
    ) -> list[float]:
        """The scores by the definition, in float64."""
        a = query.astype(np.float64)
        b = np.array(vectors, np.float64).reshape(-1, _DIMENSIONS)
        if self.metric == "euclidean":
            scores = np.linalg.norm(b - a, axis=1)
        elif self.metric == "dot_product":
            scores = -(b @ a)
        else:
            norms = np.linalg.norm(b, axis=1) * np.linalg.norm(a)
            # Of a zero vector the cosine is 0.
            scores = 1.0 - b @ a / np.where(norms > 0.0, norms, np.inf)
        return [float(score) for score in scores]

    def search(
        self, query: NDArray[np.float32], k: int = 10, among: Sequence[str] | None = None
    ) -> list[Any]:
        """The answer of the store, compared with what it holds; counts what it found."""
        found = self.store.search(query, k) if among is None else self._filtered(query, k, among)
        keys = [hit.key for hit in found]
        wanted = self.held if among is None else dict.fromkeys(among)
        allowed = [key for key in wanted if key in self.held]
        expected = self.distances(query, [self.held[key] for key in allowed])
        distances = dict(zip(allowed, expected, strict=True))
        truth = sorted(expected)[:k]
        require(len(found) == len(truth), f"{len(found)} of {len(truth)} answers")
        require(len(set(keys)) == len(keys), f"a key comes twice: {keys}")
        strange = [key for key in keys if key not in distances]
        require(not strange, f"{strange} were found and are not there, or not allowed")
        scores = [hit.score for hit in found]
        require(scores == sorted(scores), f"the nearest do not come first: {scores}")
        for key, score in zip(keys, scores, strict=True):
            near = abs(score - distances[key]) <= 1e-4 * (1.0 + abs(distances[key]))
            require(near, f"the score of {key!r} is {score}, expected {distances[key]}")
        slack = 1e-6 * (1.0 + abs(truth[-1])) if truth else 0.0
        self._found += sum(distances[key] <= truth[-1] + slack for key in keys)
        self._wanted += len(truth)
        return found

    def _filtered(self, query: NDArray[np.float32], k: int, among: Sequence[str]) -> list[Any]:
        found: list[Any] = self.store.search(query, k, filter=list(among))
        return found

    def require_recall(self) -> None:
        """Enough was found by all searches of this check."""
        recall = self._found / max(1, self._wanted)
        floor = 1.0 if self._index is None else self._floor
        require(recall >= floor, f"recall {recall:.4f}, expected {floor}")


def require(holds: bool, problem: str) -> None:
    """Raises `AssertionError` with the problem, unless it holds; `-O` does not take it away."""
    if not holds:
        raise AssertionError(problem)


def _rows(seed: int, count: int) -> NDArray[np.float32]:
    """Vectors around a few corners, which are the same for every seed, of different lengths."""
    corners = np.random.default_rng(1).normal(size=(10, _DIMENSIONS))
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, _DIMENSIONS)) * random.uniform(0.1, 0.4, (count, 1))
    found: NDArray[np.float32] = (corners[np.arange(count) % 10] + noise).astype(np.float32)
    return found


def _check_empty(subject: _Subject) -> None:
    require(len(subject.store) == 0, "a new store is not empty")
    for query in _rows(2, 3):
        require(list(subject.store.search(query, 10)) == [], "an empty store finds something")
    require(subject.store.get("k0") is None, "an empty store holds a vector")
    require("k0" not in subject.store, "an empty store holds a key")
    require(not subject.store.delete("k0"), "a key that is not there was deleted")


def _check_one(subject: _Subject) -> None:
    subject.fill(_rows(1, 1))
    for query in _rows(2, 3):
        require(list(subject.store.search(query, 0)) == [], "k = 0 finds something")
        subject.search(query)


def _check_k_over_n(subject: _Subject) -> None:
    subject.fill(_rows(1, _ROWS))
    for k in (_ROWS - 1, _ROWS, _ROWS + 1, 5 * _ROWS):
        subject.search(_rows(2, 1)[0], k)


def _check_nearest(subject: _Subject) -> None:
    rows, queries = _rows(1, _ROWS), _rows(2, _QUERIES)
    subject.fill(rows)
    for query in queries:
        subject.search(query)
    subject.require_recall()
    for query, batched in zip(queries, subject.store.search_batch(queries, 10), strict=True):
        alone = subject.store.search(query, 10)
        same = [hit.key for hit in alone] == [hit.key for hit in batched]
        require(same, "search_batch answers otherwise than search")
    for n in (0, 1, _ROWS - 1):
        vector = subject.store.get(f"k{n}")
        require(vector is not None and np.array_equal(vector, rows[n]), f"k{n} is another vector")


def _check_duplicates(subject: _Subject) -> None:
    subject.fill(np.concatenate([_rows(1, 60)] * 5))
    for query in np.concatenate([_rows(2, _QUERIES), _rows(1, 60)[:10]]):
        subject.search(query)
    subject.require_recall()


def _check_zero_vectors(subject: _Subject) -> None:
    rows = _rows(1, _ROWS)
    rows[::15] = 0.0
    subject.fill(rows)
    for query in _rows(2, _QUERIES):
        subject.search(query)
    subject.search(np.zeros(_DIMENSIONS, np.float32))
    subject.require_recall()


def _check_refused(subject: _Subject) -> None:
    rows = _rows(1, 50)
    subject.fill(rows)
    store = subject.store
    for value in (np.nan, np.inf, -np.inf):
        bad = rows[0].copy()
        bad[3] = value
        both = np.stack([rows[1], bad])
        _refuses(InvalidVectorError, "bad-key", store.insert, "bad-key", bad)
        _refuses(InvalidVectorError, "k7", store.update, "k7", bad)
        _refuses(InvalidVectorError, "bad-key", store.insert_batch, ["good-key", "bad-key"], both)
        _refuses(InvalidVectorError, "query", store.search, bad, 3)
    for width in (_DIMENSIONS - 1, _DIMENSIONS + 1):
        other, named = np.ones(width, np.float32), str(width)
        _refuses(DimensionError, named, store.insert, "bad-key", other)
        _refuses(DimensionError, named, store.update, "k7", other)
        _refuses(DimensionError, named, store.insert_batch, ["bad-key"], other[None])
        _refuses(DimensionError, named, store.search, other, 3)
    _refuses(KeyNotFoundError, "no-key", store.update, "no-key", rows[0])
    _refuses(InvalidArgumentError, "k", store.search, rows[0], -1)
    require(len(store) == len(rows), "what was refused changed the store")
    subject.search(rows[0], 50)


def _refuses(
    error: type[Exception], named: str, call: Callable[..., object], *arguments: object
) -> None:
    """The call raises that error, whose message names what is wrong."""
    try:
        call(*arguments)
    except error as raised:
        require(named in str(raised), f"{named!r} is not named: {raised}")
    else:
        raise AssertionError(f"{error.__name__} that names {named!r} was not raised")


def _check_update(subject: _Subject) -> None:
    rows = _rows(1, 100)
    subject.fill(rows)
    moved = _rows(3, 1)[0] * 7.0
    subject.store.update("k5", moved)
    subject.held["k5"] = moved
    found = [hit.key for hit in subject.search(moved, 100)]
    require("k5" in found, "the new vector is not found")
    subject.search(rows[5], 100)
    subject.store.insert("k6", moved)
    subject.held["k6"] = moved
    subject.build()
    subject.search(moved, 100)
    require(len(subject.store) == len(rows), "a replaced key counts twice")


def _check_delete(subject: _Subject) -> None:
    rows = _rows(1, _ROWS)
    subject.fill(rows)
    for query in _rows(2, 5):
        nearest = subject.search(query, 1)[0].key
        subject.delete(nearest)
        require(nearest not in subject.store, f"{nearest!r} is there after its deletion")
        subject.search(query, 5)
    for key in [key for n, key in enumerate(subject.held) if n % 10]:
        subject.delete(key)
    for query in _rows(2, _QUERIES):
        subject.search(query, _ROWS)
    for key in list(subject.held):
        subject.delete(key)
    subject.search(rows[0])
    subject.fill(rows[:50])
    subject.search(rows[0], 60)
    require(len(subject.store) == 50, "a reinserted key is missing, or counts twice")


def _check_filter(subject: _Subject) -> None:
    subject.fill(_rows(1, _ROWS))
    keys = list(subject.held)
    for query in _rows(2, 5):
        for among in ([], ["no-key"], ["k3"], ["k3", "no-key", "k599"], keys[::7], keys):
            subject.search(query, 10, among)
    subject.require_recall()


def _check_many(subject: _Subject) -> None:
    subject.fill(_rows(1, _MANY))
    for deleted in (0, _MANY // 3):
        # An index has to pass through these.
        for n in range(deleted):
            subject.delete(f"k{3 * n}")
        for query in _rows(2, _QUERIES):
            subject.search(query)
            subject.search(query, 10, list(subject.held)[::2])
    subject.require_recall()


def _check_same_again(subject: _Subject) -> None:
    queries, answers = _rows(2, 5 * _QUERIES), []
    for name in ("first", "second"):
        subject.begin(name)
        subject.fill(_rows(1, _MANY))
        found = subject.store.search_batch(queries, 50)
        answers.append([[(hit.key, hit.score) for hit in hits] for hits in found])
    pairs = zip(*answers, strict=True)
    others = sum(first != second for first, second in pairs)
    require(others == 0, f"another index of the same vectors has {others} other answers")


def _check_operations(subject: _Subject) -> None:
    random = np.random.default_rng(4)
    pool, queries = _rows(5, _ROWS + _OPERATIONS), _rows(6, _ROWS + _OPERATIONS)
    subject.fill(pool[:_ROWS])
    for n in range(_ROWS, len(pool)):
        choice, key = random.integers(20), f"k{random.integers(n)}"
        if choice < 10:
            key = f"k{n}" if choice < 8 else key
            subject.store.insert(key, pool[n])
            subject.held[key] = pool[n]
        elif choice < 13:
            was_there = subject.held.pop(key, None) is not None
            require(subject.store.delete(key) == was_there, f"delete({key!r}) is wrong")
        elif choice < 14 and key in subject.held:
            subject.store.update(key, pool[n])
            subject.held[key] = pool[n]
        else:
            among = list(subject.held)[::3] if choice == 19 else None
            subject.search(queries[n], 10, among)
        if n % 500 == 0:
            subject.build()
    require(len(subject.store) == len(subject.held), "the count of keys is wrong")
    subject.require_recall()


def _check_reopen(subject: _Subject) -> None:
    rows, queries = _rows(1, _ROWS), _rows(2, _QUERIES)
    subject.fill(rows)
    subject.store.delete("k9")
    del subject.held["k9"]
    before = [[(h.key, h.score) for h in subject.search(query)] for query in queries]
    subject.close()
    require(len(subject.store) == _ROWS - 1, "keys are missing, or there again, after reopening")
    after = [[(h.key, h.score) for h in subject.search(query)] for query in queries]
    require(before == after, "the answers are others after reopening")
    subject.require_recall()


CHECKS: dict[str, Callable[[Any], None]] = {
    "empty": _check_empty,
    "one": _check_one,
    "k_over_n": _check_k_over_n,
    "nearest": _check_nearest,
    "duplicates": _check_duplicates,
    "zero_vectors": _check_zero_vectors,
    "refused": _check_refused,
    "update": _check_update,
    "delete": _check_delete,
    "filter": _check_filter,
    "many": _check_many,
    "same_again": _check_same_again,
    "operations": _check_operations,
    "reopen": _check_reopen,
}
"""The checks by name."""
