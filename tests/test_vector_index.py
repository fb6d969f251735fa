"""The index of a store: built, searched, kept by the file, given up for exact answers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import SynaDB, VectorStore
from synadb.errors import CancelledError, DatabaseClosedError, InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
KINDS = ("flat", "gravity_well", "hnsw", "cascade")
METRICS = ("cosine", "euclidean", "dot_product")
THOROUGH = {
    "flat": {},
    "gravity_well": {"nprobe": 64},
    "hnsw": {"ef_search": 200},
    "cascade": {"num_probes": 40, "ef_search": 200},
}
"""Parameters with which a search finds next to everything of a few thousand vectors."""


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of real passages, 384 dimensions."""
    with np.load(DATA) as data:
        found = data["passages_i8"].astype(np.float32)
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def filled(path: Path, rows: NDArray[np.float32], **options: Any) -> VectorStore:
    """A store of these rows under their numbers."""
    store = VectorStore(path, rows.shape[1], sync_on_write=False, **options)
    store.insert_batch([str(n) for n in range(len(rows))], rows)
    return store


def found(store: VectorStore, queries: NDArray[np.float32], **how: Any) -> list[list[str]]:
    """Keys of the ten nearest of each query."""
    return [[hit.key for hit in hits] for hits in store.search_batch(queries, 10, **how)]


def recall(store: VectorStore, queries: NDArray[np.float32], **how: Any) -> float:
    """Share of the ten nearest that the index finds."""
    exact, near = found(store, queries, exact=True), found(store, queries, **how)
    return sum(len({*a} & {*b}) for a, b in zip(exact, near, strict=True)) / sum(map(len, exact))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_index_finds_what_the_scan_finds(
    path: Path, rows: NDArray[np.float32], kind: str, metric: str
) -> None:
    with filled(path, rows[100:], metric=metric) as store:
        assert not store.has_index
        store.build_index(kind, threads=2)
        assert store.has_index
        assert store.resolved_backend == kind
        assert store.index_stats() is not None
        assert recall(store, rows[:100], **THOROUGH[kind]) >= 0.98
        assert recall(store, rows[:100]) >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_later_changes_are_seen_through_the_index(
    path: Path, rows: NDArray[np.float32], kind: str
) -> None:
    with filled(path, rows[:1000]) as store:
        store.build_index(kind)
        store.insert("new", rows[1500])
        store.update("7", rows[1600])
        store.delete("8")
        store.insert_batch([f"more {n}" for n in range(500)], rows[1000:1500])
        thorough = THOROUGH[kind]
        assert store.search(rows[1500], 1, **thorough)[0].key == "new"
        assert store.search(rows[1600], 1, **thorough)[0].key == "7"
        assert store.search(rows[1499], 1, **thorough)[0].key == "more 499"
        assert "7" not in [hit.key for hit in store.search(rows[7], 3, **thorough)]
        assert "8" not in [hit.key for hit in store.search(rows[8], 3, **thorough)]
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["rows"], stats["dead"], stats["tail"]) == (kind, 998, 2, 502)
        assert stats["bytes"] > 0
        store.build_index(kind)
        stats = store.index_stats()
        assert stats is not None
        assert (stats["rows"], stats["dead"], stats["tail"]) == (1500, 0, 0)
        assert recall(store, rows[1600:1700], **thorough) >= 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_reopening_costs_no_rebuild_and_later_checkpoints_keep_the_index(
    path: Path, rows: NDArray[np.float32], kind: str
) -> None:
    with filled(path, rows) as store:
        store.build_index(kind, seed=3)
        before, answers = store.index_stats(), found(store, rows[:50])
    for _ in range(2):
        # Twice: the second checkpoint copies an index that this process never opened.
        with SynaDB(path, sync_on_write=False) as db:
            db.put_many({f"key {n}": "x" * 100 for n in range(20_000)})
    with VectorStore(path, access="read_only") as store:
        after = store.index_stats()
        assert before is not None
        assert after is not None
        assert [after[word] for word in ("kind", "rows", "tail")] == [kind, len(rows), 0]
        assert found(store, rows[:50]) == answers


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_index_is_ignored_and_answers_are_exact(
    path: Path, rows: NDArray[np.float32], kind: str
) -> None:
    with filled(path, rows[:1500]) as store:
        exact = found(store, rows[1500:1600])
        store.build_index(kind)
    checkpoint = path.with_name(path.name + "-ckpt")
    whole = checkpoint.read_bytes()
    ignored = 0
    for offset in np.linspace(4096, len(whole) - 200, 40).astype(int):
        checkpoint.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x10]) + whole[offset + 1 :])
        with VectorStore(path, access="read_only") as store:
            if store.has_index:
                assert recall(store, rows[1500:1600]) >= 0.9
            else:
                ignored += 1
                assert found(store, rows[1500:1600]) == exact
    assert ignored >= 20


def test_same_seed_and_one_thread_give_the_same_index(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    for kind in KINDS:
        answers = []
        for name in ("a", "b"):
            with filled(tmp_path / f"{kind}-{name}.db", rows[:1500]) as store:
                store.build_index(kind, threads=1, seed=5)
                answers.append([(h.key, h.score) for q in rows[1500:1550] for h in store.search(q)])
        assert answers[0] == answers[1]


def test_index_that_was_dropped_stays_dropped(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[:500]) as store:
        store.build_index("flat")
        store.build_index("none")
        assert not store.has_index
        assert store.index_stats() is None
        assert store.resolved_backend == "flat"
    with VectorStore(path) as store:
        assert not store.has_index
        assert store.search(rows[3], 1)[0].key == "3"
        store.build_index()
        assert store.resolved_backend == "hnsw"


def test_compaction_drops_the_index_and_it_can_be_built_again(
    path: Path, rows: NDArray[np.float32]
) -> None:
    with filled(path, rows[:1000]) as store:
        store.build_index("gravity_well")
        for n in range(0, 1000, 2):
            store.delete(str(n))
        store.compact()
        assert not store.has_index
        assert store.search(rows[501], 1)[0].key == "501"
        store.build_index("gravity_well")
        stats = store.index_stats()
        assert stats is not None
        assert (stats["rows"], stats["dead"]) == (500, 0)
        assert recall(store, rows[1000:1100], nprobe=64) >= 0.98


def test_cancelled_build_leaves_the_index_as_it_was(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows) as store:
        store.build_index("flat")
        for kind, last in (("hnsw", 300), ("cascade", 300), ("gravity_well", 300), ("flat", 999)):
            told: list[tuple[int, int]] = []

            def stops(
                done: int, total: int, told: list[tuple[int, int]] = told, last: int = last
            ) -> bool:
                told.append((done, total))
                return done < last

            with pytest.raises(CancelledError):
                store.build_index(kind, progress=stops)
            assert told == sorted(told)
            assert store.resolved_backend == "flat"

        def fails(_done: int, _total: int) -> None:
            raise LookupError("by the caller")

        with pytest.raises(LookupError, match="by the caller"):
            store.build_index("hnsw", progress=fails)
        assert store.resolved_backend == "flat"
        store.build_index("hnsw", progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (1000, 1000)


def test_searches_and_writes_go_on_beside_a_build(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[:1500]) as store:
        stop = threading.Event()
        failures: list[BaseException] = []

        def beside(number: int) -> None:
            count = 0
            try:
                while not stop.is_set():
                    key = f"{number}/{count}"
                    store.insert(key, rows[1500 + count % 500])
                    assert store.search(rows[3], 1, ef_search=200, nprobe=64)[0].key == "3"
                    if count % 3 == 0:
                        store.delete(key)
                    count += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=beside, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            for kind in KINDS:
                store.build_index(kind)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert recall(store, rows[:50], **THOROUGH["hnsw"]) >= 0.98
        stats = store.index_stats()
        assert stats is not None
        assert stats["rows"] + stats["tail"] == len(store)


def test_rows_of_a_batch_that_commits_behind_the_build_are_found(
    path: Path, rows: NDArray[np.float32]
) -> None:
    # The batch reserves its rows first, fills them without the lock and commits them later.
    with filled(path, rows[:500]) as store:
        big = np.tile(rows, (16, 1))
        keys = [f"big {n}" for n in range(len(big))]
        thread = threading.Thread(target=store.insert_batch, args=(keys, big))
        thread.start()
        while thread.is_alive():
            store.insert("single", rows[0])
            store.build_index("flat")
        thread.join(60)
        stats = store.index_stats()
        assert stats is not None
        assert stats["rows"] + stats["tail"] == len(store) == 501 + len(big)
        for n in (0, len(big) // 2, len(big) - 1):
            same = {f"big {m}" for m in range(n % len(rows), len(big), len(rows))}
            assert same <= {hit.key for hit in store.search(big[n], 30)}


OTHER = """
import sys
from synadb import SynaDB
with SynaDB(sys.argv[1], sync_on_write=False) as db:
    print("open", flush=True)
    sys.stdin.readline()
    db.put_many({f"key {n}": "x" * 100 for n in range(20_000)})
"""


def test_checkpoint_of_a_process_without_the_index_keeps_it(
    path: Path, rows: NDArray[np.float32]
) -> None:
    with filled(path, rows[:800]) as store:
        store.flush()
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        store.build_index("gravity_well")
    other.communicate("go\n", timeout=60)
    assert other.returncode == 0
    with VectorStore(path) as store:
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["rows"]) == ("gravity_well", 800)


def test_reader_builds_an_index_of_its_own_and_writes_nothing(
    path: Path, rows: NDArray[np.float32]
) -> None:
    filled(path, rows[:800]).close()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with VectorStore(path, access="read_only") as store:
        store.build_index("hnsw")
        assert recall(store, rows[800:900], ef_search=200) >= 0.98
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    with VectorStore(path) as store:
        assert not store.has_index


@pytest.mark.parametrize("kind", KINDS)
def test_odd_stores(tmp_path: Path, kind: str) -> None:
    with VectorStore(tmp_path / "empty.db", 4, metric="euclidean", sync_on_write=False) as store:
        store.build_index(kind)
        assert store.search([1.0, 0.0, 0.0, 0.0]) == []
        store.insert("only", [1.0, 2.0, 3.0, 4.0])
        store.build_index(kind)
        assert [hit.key for hit in store.search([0.0] * 4, 5)] == ["only"]
        store.delete("only")
        assert store.search([0.0] * 4, 5) == []
        store.build_index(kind)
        assert store.search([0.0] * 4, 5) == []
        store.insert("only", [0.0, 0.0, 0.0, 0.0])
        store.insert("twin", [0.0, 0.0, 0.0, 0.0])
        store.build_index(kind)
        assert [(h.key, h.score) for h in store.search([0.0] * 4, 5)] == [
            ("only", 0.0),
            ("twin", 0.0),
        ]
        assert store.search([0.0] * 4, 0) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "ivf"}, "kind"),
        ({"kind": "hnsw", "nprobe": 3}, "nprobe"),
        ({"kind": "gravity_well", "m": 3}, "m"),
        ({"kind": "flat", "ef_search": 3}, "ef_search"),
        ({"kind": "hnsw", "m": 0}, "m"),
        ({"kind": "gravity_well", "cells": -1}, "cells"),
        ({"kind": "hnsw", "preset": "small"}, "preset"),
        ({"kind": "cascade", "preset": "tiny"}, "preset"),
        ({"kind": "cascade", "nprobe": 3}, "nprobe"),
        ({"kind": "cascade", "num_hyperplanes": 25}, "num_hyperplanes"),
        ({"kind": "cascade", "num_tables": 0}, "num_tables"),
        ({"kind": "cascade", "bucket_capacity": 0}, "bucket_capacity"),
        ({"kind": "cascade", "max_bucket_depth": -1}, "max_bucket_depth"),
        ({"kind": "cascade", "graph_neighbors": 129}, "graph_neighbors"),
        ({"kind": "cascade", "num_probes": 0}, "num_probes"),
        ({"kind": "hnsw", "threads": 0}, "threads"),
    ],
)
def test_bad_parameters_are_named(
    store: VectorStore, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{named}: "):
        store.build_index(**arguments)
    assert not store.has_index


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": "9"}, "argument 'cells': 'str' object"),
        ({"num_probes": True}, "argument 'num_probes': .*bool"),
        ({"preset": 3}, "argument 'preset': .*int"),
        ({"links": 3}, "build_index\\(\\) got an unexpected keyword argument 'links'"),
    ],
)
def test_parameters_of_another_type_and_unknown_ones_are_named(
    store: VectorStore, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        store.build_index("cascade", **arguments)
    assert not store.has_index


def test_seed_is_of_64_bits(store: VectorStore) -> None:
    store.insert("a", [1.0] * 8)
    store.build_index("FLAT", seed=2**64 - 1)
    for seed in (-1, 2**64):
        with pytest.raises(OverflowError):
            store.build_index("flat", seed=seed)


def test_stores_of_few_dimensions_share_a_thread(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    stores = {}
    for width in (1, 8, 16, 40):
        rows = random.standard_normal((500, width), dtype=np.float32)
        stores[width] = (filled(tmp_path / f"{width}.db", rows, metric="euclidean"), rows)
        stores[width][0].build_index("hnsw")
    for width in (40, 8, 1, 16, 40, 1, 8):
        store, rows = stores[width]
        assert recall(store, rows[:100], ef_search=200) >= 0.98
    for store, _ in stores.values():
        store.close()


def test_no_search_beside_a_build_misses_a_key(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[:40]) as store:
        store.insert("x", rows[50])
        stop = threading.Event()
        missed: list[list[str]] = []

        def look() -> None:
            while not stop.is_set():
                answers = store.search_batch(np.tile(rows[50], (64, 1)), 1)
                keys = [[hit.key for hit in hits] for hits in answers]
                missed.extend(found for found in keys if found != ["x"])

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(60):
            for _ in range(50):
                store.insert("x", rows[50])
            store.build_index("flat", threads=1)
        stop.set()
        for thread in threads:
            thread.join(60)
        assert missed == []


def test_a_later_build_wins_over_what_another_process_has_built(
    path: Path, rows: NDArray[np.float32]
) -> None:
    program = """
import sys
from synadb import VectorStore
with VectorStore(sys.argv[1]) as store:
    store.build_index("flat")
    store.build_index("flat")
"""
    for last in ("hnsw", "none"):
        with filled(path, rows[:300]) as store:
            subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
            store.build_index(last)
            assert store.has_index == (last != "none")
        with VectorStore(path) as store:
            assert store.has_index == (last != "none")
            assert store.resolved_backend == ("hnsw" if last == "hnsw" else "flat")


def test_index_is_built_anew_over_a_damaged_one(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[:300]) as store:
        store.build_index("flat")
        store.build_index("flat")
    checkpoint = path.with_name(path.name + "-ckpt")
    whole = bytearray(checkpoint.read_bytes())
    whole[len(whole) // 2] ^= 1
    checkpoint.write_bytes(whole)
    with VectorStore(path) as store:
        store.build_index("flat")
        assert store.has_index
    with VectorStore(path) as store:
        assert store.has_index


def test_of_vectors_without_structure_the_default_finds_enough(path: Path) -> None:
    random = np.random.default_rng(5).standard_normal((6_100, 64)).astype(np.float32)
    with filled(path, random[:6_000]) as store:
        store.build_index("gravity_well")
        default = recall(store, random[6_000:])
        assert default >= 0.93
        assert recall(store, random[6_000:], candidates=30) < default - 0.3
        assert recall(store, random[6_000:], nprobe=400, candidates=6_000) == 1.0
        store.build_index("gravity_well", nprobe=400)
        # The cells are as asked for, the candidates as many as pay.
        assert recall(store, random[6_000:]) >= 0.93
    with VectorStore(path) as store:
        assert recall(store, random[6_000:]) >= 0.93


def test_codes_are_tuned_to_fewer_candidates(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows) as store:
        store.build_index("flat", target_recall=0.9)
        (known,) = (store.index_stats() or {})["tuned"]
        assert known["candidates"] < 200
        assert known["recall"] >= 0.9
        fewer = recall(store, rows[:200], candidates=10)
        assert fewer < recall(store, rows[:200], candidates=2_000)


def test_bad_search_parameters_are_named(store: VectorStore) -> None:
    for name in ("ef_search", "nprobe", "candidates", "num_probes"):
        with pytest.raises(InvalidArgumentError, match=f"{name}: it must be 1 or more, got 0"):
            store.search([0.0] * 8, **{name: 0})
        with pytest.raises(TypeError):
            store.search_batch([[0.0] * 8], **{name: True})


def test_closed_store_has_no_index(path: Path) -> None:
    store = VectorStore(path, 8)
    store.close()
    for call in (store.build_index, store.index_stats, lambda: store.has_index):
        with pytest.raises(DatabaseClosedError):
            call()
