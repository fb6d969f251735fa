"""Searches that may return some keys only, on real passages and through every kind of index."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synadb
from synadb import KeyFilter, VectorStore

DATA = Path(__file__).parent.parent / "data" / "demo"
KINDS = ["none", "flat", "hnsw", "gravity_well", "cascade"]


@pytest.fixture(scope="module")
def passages() -> np.ndarray:
    with np.load(next(DATA.glob("*.npz"))) as arrays:
        name = max(arrays.files, key=lambda name: arrays[name].size)
        rows = arrays[name].astype(np.float32)[:2000]
    unit: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def named(number: int) -> str:
    return f"{'even' if number % 2 == 0 else 'odd'}:{number:04d}"


@pytest.fixture
def store(tmp_path: Path, passages: np.ndarray) -> Any:
    with VectorStore(tmp_path / "a.db", passages.shape[1], sync_on_write=False) as store:
        store.insert_batch([named(n) for n in range(len(passages))], passages)
        yield store


def nearest(passages: np.ndarray, query: np.ndarray, allowed: set[int], k: int) -> list[str]:
    order = np.argsort(-(passages @ query), kind="stable")
    return [named(n) for n in order.tolist() if n in allowed][:k]


@pytest.mark.parametrize("kind", KINDS)
def test_filtered_search_finds_the_nearest_that_pass(
    store: VectorStore, passages: np.ndarray, kind: str
) -> None:
    store.build_index(kind)
    numbers = range(len(passages))
    tenth = {n for n in numbers if n % 10 == 3}
    cases: list[tuple[Any, set[int]]] = [
        (KeyFilter(prefix="odd:"), {n for n in numbers if n % 2}),
        (~KeyFilter(prefix="odd:"), {n for n in numbers if n % 2 == 0}),
        (KeyFilter(glob="*:?5*"), {n for n in numbers if f"{n:04d}"[1] == "5"}),
        (KeyFilter([named(n) for n in tenth]), tenth),
        (KeyFilter([named(n) for n in tenth], exclude=True), set(numbers) - tenth),
        ([named(n) for n in (1, 50, 700)], {1, 50, 700}),
        ({named(9), "nobody"}, {9}),
        ((), set()),
    ]
    for given, allowed in cases:
        hits = wanted = 0
        for query in passages[5::97]:
            found = store.search(query, 10, filter=given, ef_search=200)
            expected = nearest(passages, query, allowed, 10)
            assert len(found) == len(expected)
            assert all(int(hit.key.split(":")[1]) in allowed for hit in found)
            hits += len({hit.key for hit in found} & set(expected))
            wanted += len(expected)
        assert hits >= 0.97 * wanted, (given, hits, wanted)


def test_batches_and_every_store_take_filters(tmp_path: Path, passages: np.ndarray) -> None:
    keys = [named(n) for n in range(len(passages))]
    width = passages.shape[1]
    odd = KeyFilter(prefix="odd:")
    with synadb.GravityWellIndex(tmp_path / "g.gwi", width) as wells:
        wells.initialize(passages[:500])
        wells.insert_batch(keys, passages)
        found = wells.search(passages[0], 5, nprobe=200, filter=odd)
        assert [hit.key for hit in found] == nearest(
            passages, passages[0], set(range(1, 2000, 2)), 5
        )
        batch = wells.search_batch(passages[:3], 5, filter=odd)
        assert all(hit.key in odd for hits in batch for hit in hits)
        as_keys, _ = wells.search_batch(passages[:3], 5, filter=odd, as_arrays=True)
        assert as_keys.tolist() == [[hit.key for hit in hits] for hits in batch]
    with synadb.MmapVectorStore(tmp_path / "m.mmap", width) as mapped:
        mapped.insert_batch(keys, passages)
        found_keys = [hit.key for hit in mapped.search(passages[0], 3, filter=[keys[7], keys[8]])]
        assert sorted(found_keys) == sorted([keys[7], keys[8]])


def test_a_filter_follows_what_is_written(store: VectorStore, passages: np.ndarray) -> None:
    fresh = KeyFilter(["new", named(0)])
    assert [hit.key for hit in store.search(passages[0], filter=fresh)] == [named(0)]
    store.insert("new", passages[0])
    assert {hit.key for hit in store.search(passages[0], filter=fresh)} == {named(0), "new"}
    store.update(named(0), -passages[0])
    hits = {hit.key: hit.score for hit in store.search(passages[0], filter=fresh)}
    assert hits == pytest.approx({"new": 0.0, named(0): 2.0}, abs=1e-6)
    store.delete("new")
    assert [hit.key for hit in store.search(passages[0], filter=fresh)] == [named(0)]


@pytest.mark.parametrize("kind", ["flat", "gravity_well"])
def test_a_filter_that_is_used_often_follows_what_is_written(
    store: VectorStore, passages: np.ndarray, kind: str
) -> None:
    """Its codes are copied meanwhile: once, and anew where the index has grown."""
    store.build_index(kind)
    fifth = KeyFilter(glob="*[38]")
    full = {"nprobe": 10_000, "candidates": 500} if kind == "gravity_well" else {}

    def check(times: int = 40) -> None:
        for number in range(times):
            query = passages[(37 * number) % len(passages)]
            wanted = store.search(query, 10, filter=fifth, exact=True)
            found = store.search(query, 10, filter=fifth, **full)
            assert [hit.key for hit in found] == [hit.key for hit in wanted]
        queries = passages[:64]
        keys = store.search_batch(queries, 10, filter=fifth, as_arrays=True, **full)[0]
        exact = store.search_batch(queries, 10, filter=fifth, as_arrays=True, exact=True)[0]
        assert keys.tolist() == exact.tolist()

    check()
    for number in range(3, 400, 10):
        store.delete(named(number))
    for number in range(8, 400, 10):
        store.insert(named(number), passages[number + 1])
    check()
    store.insert_batch([f"new:{n}" for n in range(1000)], passages[:1000][::-1])
    check()
    store.build_index(kind)
    check()


def test_stats_tell_the_memory_of_keys_that_are_kept(
    store: VectorStore, passages: np.ndarray
) -> None:
    def kept(pattern: str) -> int:
        store.search(passages[0], filter=KeyFilter(prefix=pattern))
        return store.stats(usage=False)["filter_bytes"]

    assert kept("odd:") == 0, "who comes once is spared the memory"
    least = sum(len(named(n)) + 4 for n in range(len(passages)))
    found = kept("even:")
    assert least <= found <= 3 * least
    store.insert_batch([f"{'new' * 100}{n}" for n in range(500)], passages[:500])
    assert store.stats(usage=False)["filter_bytes"] == found
    assert kept("new") >= found + 500 * 300
    store.compact()
    assert store.stats(usage=False)["filter_bytes"] == 0


def test_filters_say_what_they_are() -> None:
    filters = {
        "KeyFilter(<2 keys>)": KeyFilter(("a", "b")),
        'KeyFilter(prefix="it\'s", exclude=True)': ~KeyFilter(prefix="it's"),
        "KeyFilter(glob='*', exclude=True)": KeyFilter(glob="*", exclude=True),
    }
    for text, made in filters.items():
        assert repr(made) == text
        for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), ~~made):
            assert repr(again) == text
            assert [key in again for key in ("a", "it's", "z")] == [
                key in made for key in ("a", "it's", "z")
            ]
    assert "a" in KeyFilter(["a"])
    assert "a" not in KeyFilter(["a"], exclude=True)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: KeyFilter(), synadb.InvalidArgumentError, "one of keys, prefix and glob"),
        (lambda: KeyFilter(["a"], prefix="a"), synadb.InvalidArgumentError, "got 2"),
        (lambda: KeyFilter("abc"), TypeError, "keys must be an iterable of str, not one 'str'"),
        (lambda: KeyFilter([1]), TypeError, "a key must be a str, got 'int'"),
        (lambda: KeyFilter(prefix=1), TypeError, "prefix"),
        (lambda: 1 in KeyFilter(prefix="a"), TypeError, "str"),
    ],
)
def test_bad_filters_are_refused(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("abc", "filter must be an iterable of str, not one 'str'"),
        (7, "filter must be a KeyFilter or an iterable of str, got 'int'"),
        ([1, 2], "a key must be a str, got 'int'"),
    ],
)
def test_a_search_refuses_what_is_no_filter(
    store: VectorStore, passages: np.ndarray, given: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        store.search(passages[0], filter=given)
    with pytest.raises(TypeError, match=words):
        store.search_batch(passages[:2], filter=given)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_codes_that_are_tuned_find_what_lies_behind_what_a_filter_hides(
    tmp_path: Path, metric: str
) -> None:
    """Queries of a cluster that the filter hides: the fewest candidates are for the others."""
    random = np.random.default_rng(5)
    centres, cluster = 1.5 * random.standard_normal((40, 96)), random.integers(0, 40, 12_000)
    rows = (centres[cluster] + random.standard_normal((len(cluster), 96))).astype(np.float32)
    queries = (centres[0] + random.standard_normal((40, 96))).astype(np.float32)
    with VectorStore(tmp_path / "a.db", 96, metric=metric, sync_on_write=False) as store:
        store.insert_batch([str(number) for number in range(len(rows))], rows)
        store.build_index("flat", target_recall=0.9)
        (known,) = (store.index_stats() or {})["tuned"]
        assert known["candidates"] < 500
        hides = KeyFilter(str(number) for number in np.flatnonzero(cluster != 0))
        for k in (10, 100):
            found = store.search_batch(queries, k, filter=hides)
            truth = store.search_batch(queries, k, filter=hides, exact=True)
            shares = [
                len({hit.key for hit in some} & {hit.key for hit in all_}) / k
                for some, all_ in zip(found, truth, strict=True)
            ]
            assert np.mean(shares) >= 0.95, k


@pytest.mark.parametrize("kind", ["hnsw", "gravity_well", "cascade"])
def test_equal_vectors_that_a_filter_leaves_are_found_beside_a_coded_tail(
    kind: str, tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    same = random.normal(size=64).astype("f4")
    with VectorStore(tmp_path / "a.db", 64, "euclidean", sync_on_write=False) as store:
        store.insert_batch([f"same{n}" for n in range(64)], np.tile(same, (64, 1)))
        for name, count in (("first", 4000), ("later", 6000)):
            rows = random.normal(size=(count, 64)).astype("f4")
            store.insert_batch([f"{name}{n}" for n in range(count)], rows)
            if name == "first":
                store.build_index(kind)
        while store.index_stats()["coded"] == 0:
            store.search(same, 10)
        # So few that all are compared in full, and so near that fast keys do not tell them apart.
        found = store.search(same, 10, filter=KeyFilter(prefix="same"))
    assert [hit.score for hit in found] == [0.0] * 10
