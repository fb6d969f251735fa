"""A recall in the place of numbers: reached on other queries than it was tuned on, and kept."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridVectorStore,
    KeyFilter,
    MmapVectorStore,
    SynaDB,
    VectorStore,
)
from synadb.errors import CancelledError, InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
KINDS = ("flat", "gravity_well", "hnsw", "cascade")
STORES = (VectorStore, MmapVectorStore, GravityWellIndex, CascadeIndex)
BELOW = 0.015
"""What a recall on questions may be below the one that was tuned to on passages."""


def unit(rows: NDArray[Any]) -> Rows:
    full = rows.astype(np.float32)
    return np.ascontiguousarray(full / np.linalg.norm(full, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Embeddings of 2,500 real passages, 384 dimensions."""
    with np.load(DATA) as data:
        return unit(data["passages_i8"])


@pytest.fixture(scope="module")
def questions() -> Rows:
    """Embeddings of 1,000 real questions: what no store is tuned on."""
    with np.load(DATA) as data:
        return unit(data["questions_f16"])


def filled(path: Path, rows: Rows, kind: Any = VectorStore, **options: Any) -> VectorStore:
    """A store of these rows under their numbers."""
    store: VectorStore = kind(path, rows.shape[1], sync_on_write=False, **options)
    store.insert_batch([str(n) for n in range(len(rows))], rows)
    return store


def found(store: VectorStore, queries: Rows, k: int = 10, **how: Any) -> list[list[str]]:
    return [[hit.key for hit in hits] for hits in store.search_batch(queries, k, **how)]


def recall(store: VectorStore, queries: Rows, k: int = 10, **how: Any) -> float:
    """Share of the `k` nearest that a search finds, with the same filter."""
    same = {"filter": how["filter"]} if "filter" in how else {}
    exact = found(store, queries, k, exact=True, **same)
    near = found(store, queries, k, **how)
    return sum(len({*a} & {*b}) for a, b in zip(exact, near, strict=True)) / sum(map(len, exact))


def tuned(store: VectorStore) -> list[dict[str, Any]]:
    """What the index knows."""
    stats = store.index_stats()
    assert stats is not None
    known: list[dict[str, Any]] = stats["tuned"]
    return known


@pytest.mark.parametrize("kind", KINDS)
def test_recall_is_reached_on_queries_that_were_not_tuned_on(
    path: Path, rows: Rows, questions: Rows, kind: str
) -> None:
    with filled(path, rows) as store:
        store.build_index(kind)
        assert tuned(store) == []
        for target in (0.8, 0.95, 0.99):
            assert recall(store, questions, target_recall=target) >= target - BELOW
            known = tuned(store)[-1]
            assert (known["target_recall"], known["k"]) == (target, 10)
            assert known["recall"] >= target
            assert found(store, questions[:9], target_recall=target) == [
                [hit.key for hit in store.search(q, target_recall=target)] for q in questions[:9]
            ]
        assert len(tuned(store)) == 3
        assert recall(store, questions, 3, target_recall=0.95) >= 0.95 - 2 * BELOW
        assert recall(store, questions, 1, target_recall=0.95) >= 0.95 - 2 * BELOW
        assert recall(store, questions[:100], 100, target_recall=0.95) >= 0.95 - BELOW
        assert [known["k"] for known in tuned(store)] == [10, 10, 10, 3, 1, 100]
        assert found(store, questions, target_recall=1.0) == found(store, questions, exact=True)
        assert len(tuned(store)) == 6


@pytest.mark.parametrize("kind", ["gravity_well", "hnsw", "cascade"])
def test_more_recall_takes_more_effort_and_less_takes_less(
    path: Path, rows: Rows, questions: Rows, kind: str
) -> None:
    effort = {"gravity_well": "nprobe", "hnsw": "ef_search", "cascade": "ef_search"}[kind]
    with filled(path, rows) as store:
        store.build_index(kind)
        least, most = (recall(store, questions, target_recall=t) for t in (0.5, 0.995))
        assert most > least
        low, high = tuned(store)
        assert high[effort] > low[effort]
        # What was found is what a search with these numbers finds.
        names = {"ef_search", "nprobe", "candidates", "num_probes"}
        numbers = {name: value for name, value in high.items() if name in names}
        assert found(store, questions, **numbers) == found(store, questions, target_recall=0.995)


@pytest.mark.parametrize("kind", KINDS)
def test_recall_of_a_build_is_that_of_its_searches_and_is_kept(
    path: Path, rows: Rows, questions: Rows, kind: str
) -> None:
    with filled(path, rows) as store:
        store.build_index(kind, target_recall=0.97)
        assert store.target_recall is None
        stats = store.index_stats()
        assert stats is not None
        assert stats["target_recall"] == 0.97
        assert [(known["target_recall"], known["k"]) for known in stats["tuned"]] == [(0.97, 10)]
        answers = found(store, questions)
        assert recall(store, questions) >= 0.97 - BELOW
        assert answers == found(store, questions, target_recall=0.97)
        # Tuned by a search, and saved by the next checkpoint.
        found(store, questions[:1], 5)
        store.checkpoint()
        known = tuned(store)
        assert [one["k"] for one in known] == [10, 5]
    for options in ({}, {"access": "read_only"}):
        with VectorStore(path, **options) as store:
            stats = store.index_stats()
            assert stats is not None
            assert (stats["target_recall"], stats["tuned"]) == (0.97, known)
            assert found(store, questions) == answers
            assert tuned(store) == known


@pytest.mark.parametrize("kind", STORES)
def test_every_store_takes_a_recall(path: Path, rows: Rows, questions: Rows, kind: Any) -> None:
    with filled(path, rows, kind, target_recall=0.96) as store:
        assert store.target_recall == 0.96
        store.build_index()
        assert [(known["target_recall"], known["k"]) for known in tuned(store)] == [(0.96, 10)]
        answers = found(store, questions)
        assert recall(store, questions) >= 0.96 - BELOW
        assert answers == found(store, questions, target_recall=0.96)
        assert found(store, questions[:1]) == [[hit.key for hit in store.search(questions[0])]]
        copy = pickle.loads(pickle.dumps(store))
        assert copy.target_recall == 0.96
        copy.close()
        # Numbers of a search go before the recall of the store.
        fewest = {"num_probes": 1, "ef_search": 1, "nprobe": 1}
        if kind is CascadeIndex:
            del fewest["nprobe"]
        assert recall(store, questions, **fewest, candidates=1) < 0.9
    with kind(path) as store:
        assert store.target_recall is None
        assert found(store, questions) == answers
    # The handle's own goes before that of the index.
    with kind(path, target_recall=1.0) as store:
        assert found(store, questions) == found(store, questions, exact=True)


def test_numbers_of_a_class_are_those_of_searches_without_a_recall(
    tmp_path: Path, rows: Rows, questions: Rows
) -> None:
    with filled(tmp_path / "a.gwi", rows, GravityWellIndex) as gwi:
        gwi.build_index()
        assert found(gwi, questions) == found(gwi, questions, nprobe=50)
        gwi.build_index(target_recall=0.6)
        assert recall(gwi, questions) < recall(gwi, questions, nprobe=50)
        assert found(gwi, questions[:50], nprobe=50) == [
            [hit.key for hit in gwi.search(q, 10, 50)] for q in questions[:50]
        ]
    options: dict[str, Any] = {"num_probes": 1, "ef_search": 10}
    with filled(tmp_path / "a.cascade", rows, CascadeIndex, **options) as cascade:
        cascade.build_index()
        assert found(cascade, questions) == found(cascade, questions, **options)
        cascade.build_index(target_recall=0.99)
        assert recall(cascade, questions) >= 0.99 - BELOW
        assert recall(cascade, questions) > recall(cascade, questions, **options)


def test_hybrid_takes_a_recall_for_both_tables(tmp_path: Path, rows: Rows, questions: Rows) -> None:
    paths, keys = (tmp_path / "hot", tmp_path / "cold"), [str(n) for n in range(len(rows))]
    with filled(tmp_path / "exact.db", rows) as plain:
        exact = found(plain, questions)

    def share(store: HybridVectorStore, **how: Any) -> float:
        near = [[hit.key for hit in hits] for hits in store.search_batch(questions, **how)]
        both = zip(exact, near, strict=True)
        return sum(len({*a} & {*b}) for a, b in both) / sum(map(len, exact))

    with HybridVectorStore(*paths, 384) as store:
        store.ingest_batch(keys[:1250], rows[:1250])
        store.promote_to_cold()
        store.ingest_batch(keys[1250:], rows[1250:])
        store.build_cold(target_recall=0.8)
        store.initialize_hot(rows[:10])
        stats = store.index_stats()
        assert stats["hot"] is not None
        assert stats["cold"] is not None
        assert stats["cold"]["target_recall"] == 0.8
        assert share(store, target_recall=0.99) >= 0.99 - BELOW
        assert share(store, target_recall=1.0) == 1.0
        one = store.search(questions[0], 10, target_recall=0.99)
        assert one == store.search_batch(questions[:1], 10, target_recall=0.99)[0]
        for layer, search in (("hot", store.search_hot), ("cold", store.search_cold)):
            nearest = [hit.key for hit in search(questions[0], 10, target_recall=1.0)]
            assert {*nearest} <= {*(keys[1250:] if layer == "hot" else keys[:1250])}
        both = store.stats(recall=True)["recall"]
        assert both["hot"]["queries"] == both["cold"]["queries"] == 157
        with pytest.raises(InvalidArgumentError, match=r"target_recall: .* got 2"):
            store.search(questions[0], target_recall=2)
    with HybridVectorStore(*paths, target_recall=0.97) as store:
        assert share(store) >= 0.97 - BELOW
        assert store.__getnewargs_ex__()[1]["target_recall"] == 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_came_later_and_rows_that_died_leave_the_recall(
    path: Path, rows: Rows, questions: Rows, kind: str
) -> None:
    with filled(path, rows[:1500]) as store:
        store.build_index(kind, target_recall=0.95)
        store.insert_batch([f"more {n}" for n in range(1000)], rows[1500:])
        assert recall(store, questions) >= 0.95 - BELOW
        for n in range(900):
            store.delete(str(n))
        assert recall(store, questions) >= 0.95 - 2 * BELOW
        store.build_index(kind, target_recall=0.95)
        assert recall(store, questions) >= 0.95 - BELOW


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [2, 10, 100])
def test_recall_is_reached_among_what_a_filter_lets_pass(
    path: Path, rows: Rows, questions: Rows, kind: str, share: int
) -> None:
    with filled(path, rows) as store:
        store.build_index(kind, target_recall=0.95)
        some = KeyFilter([str(n) for n in range(0, len(rows), share)])
        assert recall(store, questions, filter=some) >= 0.95 - 2 * BELOW
        assert recall(store, questions[:100], filter=some, target_recall=1.0) == 1.0


def test_nothing_is_tuned_where_a_scan_is_as_fast(path: Path, rows: Rows, questions: Rows) -> None:
    with filled(path, rows[:500]) as store:
        assert recall(store, questions, target_recall=0.5) == 1.0
        store.build_index("hnsw", target_recall=0.5)
        assert tuned(store) == []
        assert recall(store, questions) == 1.0


def unstructured(count: int, seed: int) -> Rows:
    """Directions that say nothing of each other, 256 dimensions."""
    return np.random.default_rng(seed).standard_normal((count, 256)).astype(np.float32)


@pytest.mark.parametrize("kind", ["hnsw", "cascade"])
def test_walks_through_a_graph_are_tuned_and_not_scans_beside_it(path: Path, kind: str) -> None:
    # With a filter that leaves out the sample's own rows, these graphs scan where they walk else.
    with filled(path, unstructured(4000, 0)) as store:
        store.build_index(kind, target_recall=0.9)
        assert recall(store, unstructured(200, 1)) >= 0.9 - BELOW


def test_a_recall_that_the_index_cannot_reach_is_reached_by_a_scan(path: Path) -> None:
    # Bounds of codes err for some of so many, whatever the candidates.
    rows, queries = unstructured(4000, 0), unstructured(200, 1)
    with filled(path, rows) as store:
        store.build_index("flat", target_recall=0.9999)
        assert recall(store, queries, 100) == 1.0
        assert tuned(store)[1:] == [{"target_recall": 0.9999, "k": 100, "recall": 1.0}]
        store.checkpoint()
    with VectorStore(path) as store:
        assert len(tuned(store)) == 2
        assert found(store, queries, 100) == found(store, queries, 100, exact=True)


def test_read_only_store_tunes_for_itself(path: Path, rows: Rows, questions: Rows) -> None:
    with filled(path, rows) as store:
        store.build_index("hnsw")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with VectorStore(path, access="read_only") as store:
        assert recall(store, questions, target_recall=0.98) >= 0.98 - BELOW
        assert [known["target_recall"] for known in tuned(store)] == [0.98]
        assert 0.5 <= store.stats(recall=True)["recall"]["recall"] <= 1.0
    with VectorStore(path, access="read_only", target_recall=0.9) as store:
        assert recall(store, questions) >= 0.9 - BELOW
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_other_processes_search_for_the_recall_of_the_build(
    path: Path, rows: Rows, questions: Rows
) -> None:
    program = """
import sys, numpy as np, synadb
store = synadb.VectorStore(sys.argv[1], sync_on_write=False)
store.insert("theirs", np.load(sys.argv[2])[0])
store.build_index("hnsw", target_recall=0.93)
store.search(np.load(sys.argv[2])[0], 7)
store.checkpoint()
store.close()
"""
    np.save(path.with_name("q.npy"), questions)
    with filled(path, rows) as store:
        command = [sys.executable, "-c", program, str(path), str(path.with_name("q.npy"))]
        subprocess.run(command, check=True, timeout=60)
        store.insert("ours", questions[1])
    with VectorStore(path) as store:
        stats = store.index_stats()
        assert stats is not None
        assert (stats["target_recall"], stats["rows"]) == (0.93, len(rows) + 1)
        assert [known["k"] for known in stats["tuned"]] == [10, 7]
        assert store.search(questions[1], 1)[0].key == "ours"
        assert recall(store, questions) >= 0.93 - BELOW


def test_threads_that_ask_at_once_tune_once(path: Path, rows: Rows, questions: Rows) -> None:
    with filled(path, rows) as store:
        store.build_index("hnsw")
        answers: list[list[list[str]]] = []

        def look() -> None:
            answers.append(found(store, questions[:20], target_recall=0.9))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(tuned(store)) == 1
        assert len(answers) == 4
        assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("target", [0, 0.0, -0.1, 1.0001, 95, float("nan"), float("inf")])
def test_recall_out_of_range_is_refused_and_nothing_changes(
    tmp_path: Path, rows: Rows, target: float
) -> None:
    wanted = "target_recall: it must be above 0 and at most 1, got "
    for kind in STORES:
        with pytest.raises(InvalidArgumentError, match=wanted):
            kind(tmp_path / "new.db", 384, target_recall=target)
    with pytest.raises(InvalidArgumentError, match=wanted):
        HybridVectorStore(tmp_path / "hot", tmp_path / "cold", 384, target_recall=target)
    assert list(tmp_path.iterdir()) == []
    empty = VectorStore(tmp_path / "empty.db", 384)
    with pytest.raises(InvalidArgumentError, match=wanted):
        empty.search(rows[0], target_recall=target)
    empty.close()
    with filled(tmp_path / "a.db", rows[:100]) as store:
        store.build_index("flat")
        before = store.index_stats()
        for call in (
            lambda: store.build_index("hnsw", target_recall=target),
            lambda: store.search(rows[0], target_recall=target),
            lambda: store.search_batch(rows[:2], target_recall=target, as_arrays=True),
        ):
            with pytest.raises(InvalidArgumentError, match=wanted):
                call()
        assert store.index_stats() == before
        assert store.stats()["tables"] == {"vector:vec/": 100}


@pytest.mark.parametrize("wrong", ["0.9", True, None, [0.9]])
def test_recall_of_another_type_is_named(path: Path, wrong: Any) -> None:
    with VectorStore(path, 4) as store:
        if wrong is None:
            assert store.search([0.0] * 4, target_recall=wrong) == []
            return
        message = "target_recall must be a number above 0 and at most 1, got "
        for call in (
            lambda: store.search([0.0] * 4, target_recall=wrong),
            lambda: store.build_index("hnsw", target_recall=wrong),
            lambda: VectorStore(path, target_recall=wrong),
        ):
            with pytest.raises(TypeError, match=message):
                call()
        with pytest.raises(TypeError, match="recall must be a bool, got 'float'"):
            store.stats(recall=0.9)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ef_search", "nprobe", "candidates", "num_probes"])
def test_recall_beside_a_number_of_a_search_is_refused(path: Path, rows: Rows, name: str) -> None:
    both = (
        f"target_recall: it takes the place of {name}: give one of the two, got 0.9 and {name} 50"
    )
    how: dict[str, Any] = {name: 50, "target_recall": 0.9}
    for kind in STORES:
        with kind(path, 384, sync_on_write=False) as store:
            named = both
            if kind is CascadeIndex and name == "nprobe":
                named = both.replace("nprobe", "num_probes")
            for call in (store.search, store.search_batch):
                with pytest.raises(InvalidArgumentError, match=named):
                    call(rows[0], **how)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hnsw", "ef_search"),
        ("gravity_well", "nprobe"),
        ("cascade", "num_probes"),
        ("cascade", "ef_search"),
    ],
)
def test_recall_beside_a_number_of_a_build_is_refused(
    tmp_path: Path, rows: Rows, kind: str, name: str
) -> None:
    one = f"target_recall: it takes the place of {name}: give one of the two, got "
    with filled(tmp_path / "a.db", rows[:100]) as store:
        with pytest.raises(InvalidArgumentError, match=f"{one}0.9 and {name} 50"):
            store.build_index(kind, **{name: 50, "target_recall": 0.9})
        assert not store.has_index
        with pytest.raises(InvalidArgumentError, match='an index has one, and kind is "none"'):
            store.build_index("none", target_recall=0.9)
    with filled(tmp_path / "b.db", rows[:100], target_recall=0.8) as store:
        with pytest.raises(InvalidArgumentError, match=f"{one}the store's 0.8 and {name} 50"):
            store.build_index(kind, **{name: 50})
        assert not store.has_index
        store.build_index(kind, **{name: None, "target_recall": 0.7})
        stats = store.index_stats()
        assert stats is not None
        assert stats["target_recall"] == 0.7
        store.build_index("none")
        assert not store.has_index
    if kind == "cascade":
        with pytest.raises(InvalidArgumentError, match=f"{one}0.9 and {name} 50"):
            CascadeIndex(tmp_path / "c.db", 384, target_recall=0.9, **{name: 50})
        assert not (tmp_path / "c.db").exists()


def test_cancelled_tuning_leaves_the_index_as_it_was(path: Path, rows: Rows) -> None:
    with filled(path, rows) as store:
        store.build_index("flat", target_recall=0.8)
        before = store.index_stats()
        with pytest.raises(CancelledError):
            store.build_index("hnsw", target_recall=0.9, progress=lambda *_: False)
        assert store.index_stats() == before


def test_damaged_tuning_is_not_believed(path: Path, rows: Rows, questions: Rows) -> None:
    with filled(path, rows) as store:
        store.build_index("gravity_well", target_recall=0.975)
    checkpoint = path.with_name(path.name + "-ckpt")
    whole = checkpoint.read_bytes()
    word = np.float64(0.975).tobytes()
    places = [at for at in range(0, len(whole) - 8, 8) if whole[at : at + 8] == word]
    assert len(places) == 2  # that of the build, and that of what was tuned
    for at in places:
        damaged = whole[:at] + np.float64(0.2).tobytes() + whole[at + 8 :]
        checkpoint.write_bytes(damaged)
        with VectorStore(path, access="read_only") as store:
            assert not store.has_index
            assert recall(store, questions[:50]) == 1.0


def test_stats_tell_the_recall_on_request(path: Path, rows: Rows, questions: Rows) -> None:
    with filled(path, rows) as store:
        assert "recall" not in store.stats()
        assert store.stats(recall=True)["recall"] == {"recall": 1.0, "k": 10, "queries": 0}
        store.build_index("hnsw", ef_search=10)
        few = store.stats(recall=True)["recall"]
        assert (few["k"], few["queries"]) == (10, 193)
        assert abs(few["recall"] - recall(store, questions)) < 0.1
        store.build_index("hnsw", target_recall=0.99)
        many = store.stats(usage=False, recall=True)
        assert "live_bytes" not in many
        assert many["recall"]["recall"] >= 0.98 > few["recall"]
    with GravityWellIndex(path) as gwi:
        gwi.build_index(target_recall=0.6)
        less = gwi.stats(recall=True)["recall"]["recall"]
        gwi.build_index()
        assert gwi.stats(recall=True)["recall"]["recall"] > less
    with CascadeIndex(path, num_probes=1, ef_search=10) as cascade:
        cascade.build_index("cascade", num_probes=40, ef_search=200)
        assert cascade.stats(recall=True)["recall"]["recall"] < 0.95
    with VectorStore(path) as store:
        assert store.stats(recall=True)["recall"]["recall"] > 0.99
    with SynaDB(path) as db, VectorStore(db, name="none", dimensions=4) as empty:
        assert empty.stats(recall=True)["recall"] == {"recall": 1.0, "k": 10, "queries": 0}
