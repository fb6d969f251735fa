"""`HybridVectorStore` is searched as `VectorStore` is: filters, numbers, threads, arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import HybridVectorStore, KeyFilter, VectorStore
from synadb.testing import check_vector_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
COLD = 1500
"""So many of the passages are cold, the others hot."""


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of 2,500 real passages, 384 dimensions."""
    with np.load(DATA) as data:
        found = data["passages_i8"].astype(np.float32)
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def questions() -> NDArray[np.float32]:
    with np.load(DATA) as data:
        return data["questions_f16"].astype(np.float32)[:150]


def named(number: int) -> str:
    return f"{'even' if number % 2 == 0 else 'odd'}:{number:04d}"


def opened(folder: Path, dimensions: int | None = None, **options: Any) -> HybridVectorStore:
    return HybridVectorStore(folder / "hot.gwi", folder / "cold.cascade", dimensions, **options)


def fill(store: HybridVectorStore, rows: NDArray[np.float32]) -> None:
    keys = [named(n) for n in range(len(rows))]
    store.ingest_batch(keys[:COLD], rows[:COLD])
    store.promote_to_cold()
    store.ingest_batch(keys[COLD:], rows[COLD:])


@pytest.fixture
def store(tmp_path: Path, rows: NDArray[np.float32]) -> Iterator[HybridVectorStore]:
    with opened(tmp_path, 384) as store:
        fill(store, rows)
        yield store


def nearest(rows: NDArray[np.float32], query: NDArray[np.float32], allowed: set[int]) -> list[str]:
    """The ten nearest that pass, by the definition."""
    order = np.argsort(-(rows @ query), kind="stable")
    return [named(n) for n in order.tolist() if n in allowed][:10]


def filters() -> list[tuple[Any, set[int]]]:
    """Filters, and the numbers of the passages that each lets pass."""
    numbers = range(2500)
    tenth = {n for n in numbers if n % 10 == 3}
    return [
        (KeyFilter(prefix="odd:"), {n for n in numbers if n % 2}),
        (~KeyFilter(prefix="odd:"), {n for n in numbers if n % 2 == 0}),
        (KeyFilter(glob="*:?5*"), {n for n in numbers if f"{n:04d}"[1] == "5"}),
        (KeyFilter([named(n) for n in tenth]), tenth),
        (KeyFilter([named(n) for n in tenth], exclude=True), {*numbers} - tenth),
        (KeyFilter(glob="*:0[0-9]*"), set(range(1000))),  # none of them hot
        (KeyFilter(glob="*:2*"), set(range(2000, 2500))),  # none of them cold
        ([named(n) for n in (1, 50, 1700)], {1, 50, 1700}),
        ({named(9), "nobody"}, {9}),
        ((), set()),
    ]


@pytest.mark.parametrize("case", range(len(filters())))
@pytest.mark.parametrize("built", [False, True])
def test_filtered_search_finds_the_nearest_that_pass_in_both_tables(
    store: HybridVectorStore,
    rows: NDArray[np.float32],
    questions: NDArray[np.float32],
    built: bool,
    case: int,
) -> None:
    given, allowed = filters()[case]
    if built:
        store.build_index()
    wanted = [nearest(rows, query, allowed) for query in questions]
    exact = store.search_batch(questions, exact=True, filter=given)
    assert [[hit.key for hit in hits] for hits in exact] == wanted
    found = store.search_batch(questions, filter=given)
    assert [len(hits) for hits in found] == [len(keys) for keys in wanted]
    numbers = [(int(hit.key.split(":")[1]), hit.source) for hits in found for hit in hits]
    assert {number for number, _ in numbers} <= allowed
    assert all(source == ("hot" if number >= COLD else "cold") for number, source in numbers)
    shared = sum(
        len({hit.key for hit in hits} & {*keys}) for hits, keys in zip(found, wanted, strict=True)
    )
    assert shared >= (0.95 if built else 1.0) * sum(map(len, wanted))
    assert [store.search(query, filter=given) for query in questions[:10]] == found[:10]
    for search, source in ((store.search_hot, "hot"), (store.search_cold, "cold")):
        of_table = {n for n in allowed if (n >= COLD) == (source == "hot")}
        hits = search(questions[0], exact=True, filter=given)
        assert [hit.key for hit in hits] == nearest(rows, questions[0], of_table)
        assert {hit.source for hit in hits} <= {source}


def test_a_filter_follows_what_moves_and_what_is_written(tmp_path: Path) -> None:
    row = np.eye(8, dtype=np.float32)
    ours = KeyFilter(prefix="a:")
    with opened(tmp_path, 8, metric="euclidean") as store:

        def found() -> list[tuple[str, str]]:
            return [(hit.key, hit.source) for hit in store.search(row[0], filter=ours)]

        assert found() == []
        store.ingest_batch(["a:0", "b:0", "a:1"], row[:3])
        assert found() == [("a:0", "hot"), ("a:1", "hot")]
        store.promote_to_cold()
        assert found() == [("a:0", "cold"), ("a:1", "cold")]
        store.ingest("a:2", row[0] / 2)
        assert found() == [("a:0", "cold"), ("a:2", "hot"), ("a:1", "cold")]
        store.update("a:0", -row[0])
        assert found() == [("a:2", "hot"), ("a:1", "cold"), ("a:0", "hot")]
        store.delete("a:1")
        assert found() == [("a:2", "hot"), ("a:0", "hot")]


def test_arrays_of_a_search_are_its_results_whatever_the_threads(
    store: HybridVectorStore, questions: NDArray[np.float32]
) -> None:
    odd = KeyFilter(prefix="odd:")
    many = np.vstack([questions] * 3)
    for options in ({}, {"filter": odd}, {"exact": True, "filter": odd}):
        lists = store.search_batch(many, 7, **options)
        assert lists[:150] == lists[150:300] == [store.search(q, 7, **options) for q in questions]
        for threads in (1, 2, 5):
            assert store.search_batch(many, 7, threads=threads, **options) == lists
            keys, scores = store.search_batch(many, 7, threads=threads, as_arrays=True, **options)
            assert (keys.shape, keys.dtype, scores.shape) == ((450, 7), np.object_, (450, 7))
            assert scores.dtype == np.float32
            assert keys.tolist() == [[hit.key for hit in hits] for hits in lists]
            assert scores.tolist() == [[hit.score for hit in hits] for hits in lists]


def test_rows_with_fewer_hits_are_padded(tmp_path: Path) -> None:
    rows = np.eye(8, dtype=np.float32)
    with opened(tmp_path, 8) as store:
        store.ingest_batch(["a", "b"], rows[:2])
        store.promote_to_cold()
        store.ingest("c", rows[2])
        keys, scores = store.search_batch(rows[:2], 5, as_arrays=True)
        assert [row[3:] for row in keys.tolist()] == [[None, None]] * 2
        assert np.isinf(scores[:, 3:]).all()
        assert np.isfinite(scores[:, :3]).all()
        keys, scores = store.search_batch(rows[:2], 2, as_arrays=True, filter=["c"])
        assert (keys.tolist(), scores[:, 0].tolist()) == ([["c", None]] * 2, [1.0, 1.0])
        for queries, k in ((np.empty((0, 8), np.float32), 5), (rows[:2], 0)):
            keys, scores = store.search_batch(queries, k, as_arrays=True)
            assert keys.shape == scores.shape == (len(queries), k)


def test_numbers_are_those_of_the_table_whose_index_has_them(
    store: HybridVectorStore, rows: NDArray[np.float32], questions: NDArray[np.float32]
) -> None:
    store.build_index(source="hot", cells=200)
    store.build_index(source="cold")

    def recall(search: Callable[..., Any], allowed: range, **how: Any) -> float:
        wanted = [nearest(rows, query, {*allowed}) for query in questions]
        found = [{hit.key for hit in search(query, **how)} for query in questions]
        pairs = zip(found, wanted, strict=True)
        return sum(len(keys & {*near}) for keys, near in pairs) / sum(map(len, wanted))

    hot, cold = range(COLD, 2500), range(COLD)
    assert recall(store.search_hot, hot, nprobe=1) < 0.7
    assert recall(store.search_hot, hot, nprobe=1, num_probes=500, ef_search=500) < 0.7
    assert recall(store.search_hot, hot, nprobe=200, candidates=1000) > 0.999
    assert recall(store.search_hot, hot, nprobe=200, candidates=1000) > recall(
        store.search_hot, hot, nprobe=200, candidates=10
    )
    low = recall(store.search_cold, cold, ef_search=10, num_probes=1)
    assert low < 0.95
    assert recall(store.search_cold, cold, ef_search=400, num_probes=200) > max(0.99, low)
    for numbers in ({"nprobe": 1}, {"candidates": 10}):
        for query in questions[:30]:
            assert store.search_cold(query, **numbers) == store.search_cold(query)
    for numbers in ({"ef_search": 10}, {"num_probes": 1}):
        for query in questions[:30]:
            assert store.search_hot(query, **numbers) == store.search_hot(query)
    whole = {"nprobe": 200, "candidates": 1000, "ef_search": 500, "num_probes": 300}
    assert recall(store.search, range(2500), **whole) > 0.99
    lists = store.search_batch(questions, **whole)
    assert lists == [store.search(query, **whole) for query in questions]
    poor = store.search_batch(questions, nprobe=1, candidates=10, ef_search=10, num_probes=1)
    assert poor != lists


def test_number_for_one_table_leaves_the_recall_of_the_other(
    tmp_path: Path, rows: NDArray[np.float32], questions: NDArray[np.float32]
) -> None:
    # Of the recall 1.0, so that each search is a scan that is told nothing of its own.
    with opened(tmp_path, 384, preset="fast_search", target_recall=1.0) as store:
        fill(store, rows)
        store.build_index(source="hot", cells=200)
        store.build_index(source="cold")
        cases: tuple[tuple[Callable[..., Any], dict[str, int], dict[str, int]], ...] = (
            (store.search_hot, {"nprobe": 1}, {"ef_search": 10, "num_probes": 1}),
            (store.search_cold, {"ef_search": 10, "num_probes": 1}, {"nprobe": 1}),
        )
        for search, own, other in cases:
            exact = [search(query, exact=True) for query in questions]
            assert [search(query) for query in questions] == exact
            assert [search(query, **other) for query in questions] == exact
            assert [search(query, **own) for query in questions] != exact


def test_number_goes_to_the_table_whose_index_it_is_for(
    store: HybridVectorStore, questions: NDArray[np.float32]
) -> None:
    def answers(search: Callable[..., Any], **numbers: int) -> list[Any]:
        return [search(query, **numbers) for query in questions[:40]]

    names = ("ef_search", "nprobe", "candidates", "num_probes")

    def message(name: str) -> str:
        try:
            store.search_batch(questions[:2], **{name: 77})
        except synadb.InvalidArgumentError as error:
            return str(error)
        return ""

    def refused() -> list[str]:
        found = {name: text for name in names if (text := message(name))}
        assert all(text.startswith(f"{name}: no table") for name, text in found.items())
        assert all(text.endswith("got 77") for text in found.values())
        return list(found)

    assert refused() == []
    store.build_index("hnsw", source="cold", m=8, ef_search=300)
    store.build_index("flat", source="hot")
    assert refused() == ["nprobe", "num_probes"]
    usual = answers(store.search_cold)
    assert usual == answers(store.search_cold, ef_search=300)
    assert usual == answers(store.search_cold, candidates=500)
    assert usual != answers(store.search_cold, ef_search=10)
    store.build_index("gravity_well", source="cold", cells=200)
    assert refused() == ["ef_search", "num_probes"]
    assert answers(store.search_cold, nprobe=1) != answers(store.search_cold)
    for search in (store.search, store.search_hot, store.search_cold):
        with pytest.raises(
            synadb.InvalidArgumentError, match=r"ef_search: .*'flat'.*'gravity_well"
        ):
            search(questions[0], ef_search=5)
    store.build_index("cascade", source="cold", ef_search=10, num_probes=1)
    poor = answers(store.search_cold, ef_search=10, num_probes=1)
    assert answers(store.search_cold) == poor
    assert answers(store.search_cold, ef_search=300, num_probes=200) != poor


def test_unknown_keyword_is_named_with_the_call(tmp_path: Path) -> None:
    row = np.ones(8, np.float32)
    with opened(tmp_path, 8) as store:
        calls: tuple[Callable[..., Any], ...] = (store.search, store.search_hot, store.search_cold)
        for call in (*calls, store.search_batch):
            message = rf"{call.__name__}\(\) got an unexpected keyword argument 'probes'"
            with pytest.raises(TypeError, match=message):
                call(row, probes=3)


BAD: dict[str, dict[str, Any]] = {
    "k": {"k": -1},
    "k type": {"k": True},
    "ef_search": {"ef_search": 0},
    "nprobe": {"nprobe": -3},
    "nprobe type": {"nprobe": "9"},
    "candidates": {"candidates": 0},
    "num_probes": {"num_probes": 0},
    "num_probes type": {"num_probes": 2.5},
    "exact type": {"exact": "yes"},
    "recall": {"target_recall": 1.5},
    "recall type": {"target_recall": True},
    "recall beside a number": {"target_recall": 0.9, "nprobe": 3},
    "recall beside a queue": {"target_recall": 0.9, "ef_search": 3},
    "filter type": {"filter": 7},
    "filter text": {"filter": "abc"},
    "filter of numbers": {"filter": [1, 2]},
}
OF_BATCHES: dict[str, dict[str, Any]] = {
    "threads": {"threads": 0},
    "threads type": {"threads": "2"},
    "as_arrays type": {"as_arrays": 1},
}


def raised(call: Callable[[], Any]) -> tuple[type[Exception], str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("case", [*BAD, *OF_BATCHES])
def test_bad_argument_has_the_error_that_a_vector_store_has(tmp_path: Path, case: str) -> None:
    given = {**BAD, **OF_BATCHES}[case]
    row = np.ones(8, np.float32)
    with VectorStore(tmp_path / "plain.db", 8) as plain, opened(tmp_path, 8) as store:
        plain.insert("k", row)
        store.ingest("k", row)
        batches = raised(lambda: plain.search_batch([row], **given))
        assert raised(lambda: store.search_batch([row], **given)) == batches
        if case in BAD:
            single = raised(lambda: plain.search(row, **given))
            for search in (store.search, store.search_hot, store.search_cold):
                assert raised(lambda search=search: search(row, **given)) == single


class Tiered(HybridVectorStore):
    """A hybrid store under the names of `VectorStore`, which promotes after every fifth write."""

    _writes = 0

    def insert(self, key: str, vector: Any) -> None:
        self.ingest(key, vector)
        self._write()

    def insert_batch(self, keys: Any, vectors: Any) -> int:
        new = self.ingest_batch(keys, vectors)
        self._write()
        return new

    def _write(self) -> None:
        self._writes += 1
        if self._writes % 5 == 0:
            self.promote_to_cold()


@pytest.mark.parametrize("metric", synadb.testing.METRICS)
@pytest.mark.parametrize("built", [False, True])
def test_hybrid_store_is_held_to_what_every_store_is(built: bool, metric: str) -> None:
    def tiered(path: Path, dimensions: int, metric: str) -> Tiered:
        return Tiered(path.with_suffix(".hot"), path, dimensions, metric=metric)

    index = (lambda store: store.build_index()) if built else None
    check_vector_store(tiered, index, metrics=[metric])
