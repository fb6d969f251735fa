"""Defects 40 to 50 where an index answers: what is new, what is stale or damaged, who waits."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defect_files import random_rows, run_python
from index_waits import search_until_indexed

from synadb import VectorStore

KINDS = ["flat", "gravity_well", "hnsw", "cascade"]
COUNT, WIDTH = 3_000, 16
SHORT: dict[str, Any] = {"ef_search": 10}
"""A queue so short that of 480 vectors and more a graph is walked, and not scanned."""

Answers = list[list[tuple[str, float]]]


def numbers(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def indexed(path: Path, kind: str, seed: int = 7) -> VectorStore:
    """An open store of vectors under their numbers, with an index of them."""
    store = VectorStore(path, WIDTH, "euclidean", sync_on_write=False)
    store.insert_batch(numbers(COUNT), random_rows(COUNT, WIDTH, seed))
    store.build_index(kind, threads=1)
    return store


def nearest(store: VectorStore, rows: np.ndarray, k: int = 1) -> Answers:
    """Keys and scores, through a walk where the index is a graph."""
    found = store.search_batch(rows, k, **SHORT)
    return [[(hit.key, hit.score) for hit in hits] for hits in found]


def only_itself(keys: list[str]) -> Answers:
    return [[(key, 0.0)] for key in keys]


def no_stale_hit(store: VectorStore, rows: np.ndarray) -> None:
    """What is found near some rows lies there, and is what the keys have now."""
    for row, hits in zip(rows, store.search_batch(rows, 10, **SHORT), strict=True):
        assert len(hits) == 10
        for hit in hits:
            assert hit.vector.tobytes() == store[hit.key].tobytes()
            assert hit.score == pytest.approx(np.linalg.norm(row - hit.vector), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("how", ["insert", "insert_batch", "update", "delete and insert"])
@pytest.mark.parametrize("kind", KINDS)
def test_defect_40_newest_vector_alone_counts_through_an_index(
    path: Path, kind: str, how: str
) -> None:
    old, new = random_rows(COUNT, WIDTH)[:20], 3 * random_rows(20, WIDTH, seed=8)
    with indexed(path, kind) as store:
        for n, row in enumerate(new):
            if how == "insert_batch":
                store.insert_batch([str(n)], row[None])
                continue
            if how == "delete and insert":
                assert store.delete(str(n))
                assert str(n) not in [hit.key for hit in store.search(old[n], 10, **SHORT)]
            (store.update if how == "update" else store.insert)(str(n), row)
        assert len(store) == COUNT
        assert nearest(store, new) == only_itself(numbers(20))
        no_stale_hit(store, old)


@pytest.mark.parametrize("how", ["insert", "insert_batch", "insert_batch_fast"])
@pytest.mark.parametrize("kind", KINDS)
def test_defect_41_batch_is_found_at_once_beside_an_index(path: Path, kind: str, how: str) -> None:
    rows, keys = random_rows(100, WIDTH, seed=8), [f"new {n}" for n in range(100)]
    with indexed(path, kind) as store:
        if how == "insert":
            for key, row in zip(keys, rows, strict=True):
                store.insert(key, row)
                assert nearest(store, row[None]) == only_itself([key])
        else:
            assert getattr(store, how)(keys, rows) == 100
        assert nearest(store, rows) == only_itself(keys)
        assert [store.search(row, 1, **SHORT)[0].key for row in rows] == keys


OVERWRITES = """
import os, sys, numpy as np, synadb
rows = np.random.default_rng(8).standard_normal((20, 16)).astype(np.float32)
store = synadb.VectorStore(sys.argv[1])
store.insert_batch([str(n) for n in range(10)], rows[:10])
for n in range(10, 20):
    store.insert(str(n), rows[n])
if sys.argv[2] == "killed":
    os._exit(0)
store.close()
"""


@pytest.mark.parametrize("left", ["closed", "killed", "old checkpoint", "another's checkpoint"])
@pytest.mark.parametrize("kind", KINDS)
def test_defect_42_index_of_as_many_vectors_is_not_stale(path: Path, kind: str, left: str) -> None:
    indexed(path, kind).close()
    checkpoint = path.with_name(path.name + "-ckpt")
    saved = checkpoint.read_bytes()
    if left == "another's checkpoint":
        other = path.with_name("other.db")
        indexed(other, kind, seed=9).close()
        saved = other.with_name("other.db-ckpt").read_bytes()
    run_python(OVERWRITES, path, left)
    if "checkpoint" in left:
        checkpoint.write_bytes(saved)
    new = random_rows(20, WIDTH, seed=8)
    with VectorStore(path, access="read_only") as store:
        assert len(store) == COUNT
        assert store.has_index == (left != "another's checkpoint")
        assert nearest(store, new) == only_itself(numbers(20))
        no_stale_hit(store, random_rows(COUNT, WIDTH)[:20])


@pytest.mark.parametrize("kind", KINDS)
def test_defect_45_damaged_index_is_ignored_and_the_answers_are_right(
    path: Path, kind: str
) -> None:
    queries = random_rows(50, WIDTH, seed=8)
    with indexed(path, kind) as store:
        good = nearest(store, queries, 10)
        exact = [
            [(hit.key, hit.score) for hit in hits]
            for hits in store.search_batch(queries, 10, exact=True)
        ]
    checkpoint = path.with_name(path.name + "-ckpt")
    whole = checkpoint.read_bytes()
    ignored: list[bytearray] = []
    for offset in np.linspace(4096, len(whole) - 200, 40).astype(int):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        damaged[offset + 1] ^= 0x81
        checkpoint.write_bytes(damaged)
        with VectorStore(path, access="read_only") as store:
            found = nearest(store, queries, 10)
            assert found == (good if store.has_index else exact), offset
            if not store.has_index:
                ignored.append(damaged)
    assert len(ignored) >= 20
    checkpoint.write_bytes(ignored[-1])
    with VectorStore(path) as store:
        assert not store.has_index
        store.build_index(kind, threads=1)
    with VectorStore(path) as store:
        assert (store.resolved_backend, nearest(store, queries, 10)) == (kind, good)


def clustered(count: int, are_repeated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of many clusters, cluster after cluster, and others of the same clusters."""
    random = np.random.default_rng(2)
    centres = random.standard_normal((60, WIDTH)) * 6
    rows = np.repeat(centres, count // 60, axis=0) + random.standard_normal((count, WIDTH))
    if are_repeated:
        rows = np.repeat(rows, np.where(np.arange(count) % 3 == 0, 4, 1), axis=0)
    queries = np.repeat(centres, 4, axis=0) + random.standard_normal((240, WIDTH))
    return rows.astype(np.float32), queries.astype(np.float32)


def recall(store: VectorStore, queries: np.ndarray) -> float:
    """Share of the ten nearest that are found; of equal ones any counts."""
    _, exact = store.search_batch(queries, 10, exact=True, as_arrays=True)
    _, found = store.search_batch(queries, 10, as_arrays=True)
    return float((found <= exact[:, 9:] * (1 + 1e-6)).mean())


@pytest.mark.parametrize("data", ["distinct", "repeated"])
@pytest.mark.parametrize("way", ["by itself", "asked for"])
@pytest.mark.parametrize("kind", ["hnsw", "cascade"])
def test_defect_47_graph_filled_one_by_one_in_order_of_clusters_finds_its_neighbours(
    path: Path, kind: str, way: str, data: str
) -> None:
    # More different ones than 48 times the queue of a search, which is 100 here: it walks.
    rows, queries = clustered(6_000, data == "repeated")
    half = len(rows) // 2
    options: dict[str, Any] = {"sync_on_write": False, "index_threshold": 1_000}
    with VectorStore(path, WIDTH, "euclidean", **options) as store:
        store.insert_batch(numbers(half), rows[:half])
        store.build_index(kind, ef_search=100)
        for n in range(half, len(rows)):
            store.insert(str(n), rows[n])
        if way == "asked for":
            store.build_index(kind, ef_search=100)
        else:
            search_until_indexed(store, queries, len(rows))
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["rows"], stats["tail"]) == (kind, len(rows), 0)
        assert recall(store, queries) >= 0.95
        _, itself = store.search_batch(rows, 1, as_arrays=True)
        assert (itself == 0).mean() == 1.0, "each is reached"


EXITS = """
import os, signal, sys, time, numpy as np, synadb
path, built, way = sys.argv[1:]
rows = np.random.default_rng(7).standard_normal((3000, 16)).astype(np.float32)
store = synadb.VectorStore(path, 16, "euclidean", backend="hnsw", index_threshold=500)
store.insert_batch([str(n) for n in range(3000)], rows)
if built == "asked for":
    store.build_index()
end = time.monotonic() + 60
is_there = False
while not is_there:
    assert time.monotonic() < end
    store.search_batch(rows[:64], 1)
    with synadb.VectorStore(path, access="read_only") as reader:
        is_there = reader.has_index
store.insert("later", rows[0] + 9)
print("built", flush=True)
if way == "SIGKILL":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "_exit":
    os._exit(0)
if way == "exception":
    raise SystemExit("of the program")
"""


@pytest.mark.parametrize("way", ["end", "exception", "_exit", "SIGKILL"])
@pytest.mark.parametrize("built", ["asked for", "by itself"])
def test_defect_50_index_survives_any_exit(path: Path, built: str, way: str) -> None:
    command = [sys.executable, "-c", EXITS, str(path), built, way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "built\n", done.stderr
    assert done.returncode == {"SIGKILL": -signal.SIGKILL, "exception": 1}.get(way, 0)
    rows = random_rows(COUNT, WIDTH)
    checkpoint = path.with_name(path.name + "-ckpt")
    before = checkpoint.read_bytes()
    with VectorStore(path, access="read_only") as store:
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["rows"], stats["tail"]) == ("hnsw", COUNT, 1)
        assert nearest(store, rows[:1] + 9) == only_itself(["later"])
    assert checkpoint.read_bytes() == before
    with VectorStore(path) as store:
        store.insert("new", rows[1] + 9)
        assert (store.index_stats() or {})["rows"] == COUNT, "no insert builds one"
        assert nearest(store, rows[:2] + 9) == only_itself(["later", "new"])


ANOTHER = """
import sys, numpy as np, synadb
row = np.full(16, -70, np.float32)
with synadb.VectorStore(sys.argv[1]) as store:
    store.insert("another", row)
    assert store.search(row, 1)[0].key == "another"
"""


@pytest.mark.parametrize("kind", KINDS)
def test_defect_50_no_insert_and_no_other_store_waits_for_a_build(
    tmp_path: Path, kind: str
) -> None:
    path, row = tmp_path / "a.db", np.full(WIDTH, 50, np.float32)
    with (
        indexed(path, "none") as store,
        VectorStore(path) as same,
        indexed(tmp_path / "b.db", kind) as other,
    ):
        turns: list[str] = []

        def use() -> None:
            for name, used in (("store", store), ("same", same), ("other", other)):
                key, place = f"{name} {len(turns)}", row + len(turns)
                used.insert(key, place)
                assert used.search(place, 1)[0].key == key
                used.update("7", 9 * place)
                assert used.delete(key)
                used.insert(key, place)
                turns.append(key)
            run_python(ANOTHER, path)
            assert not store.has_index
            turns.append("another")

        def progress(_done: int, _total: int) -> None:
            # The build goes on, or waits before its last step, until this returns.
            begun = len(turns)
            user = threading.Thread(target=use)
            user.start()
            user.join(60)
            assert len(turns) == begun + 4, "it waits for the build"

        store.build_index(kind, progress=progress)
        assert store.has_index
        assert turns
        mine = {key for key in turns if not key.startswith("other")}
        assert mine <= set(store)
        assert nearest(store, row[None]) == only_itself(["store 0"])
        stats = store.index_stats()
        assert stats is not None
        assert stats["rows"] + stats["tail"] == len(store) == COUNT + len(mine)
