"""Codes of what came after an index was built: threads, processes, fork."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from synadb import KeyFilter, VectorStore

COUNT, WIDTH, LEAST = 4000, 64, 300
Rows = npt.NDArray[np.float32]


def made() -> Rows:
    return np.random.default_rng(11).standard_normal((COUNT, WIDTH), dtype=np.float32)


def opened(path: Path, **options: object) -> VectorStore:
    keywords = {"sync_on_write": False, "index_threshold": LEAST, **options}
    return VectorStore(path, WIDTH, **keywords)  # type: ignore[arg-type]


def keys(numbers: range) -> list[str]:
    return [str(number) for number in numbers]


def plain(store: VectorStore) -> int:
    """Rows that are compared in full."""
    stats = store.index_stats()
    assert stats is not None
    return int(stats["tail"]) - int(stats["coded"])


def search_until_coded(store: VectorStore, rows: Rows) -> None:
    end = time.monotonic() + 60
    while plain(store) >= LEAST:
        assert time.monotonic() < end, store.index_stats()
        store.search_batch(rows[:20], k=1)


def recall(store: VectorStore, rows: Rows, filter: KeyFilter | None = None) -> float:
    queries = rows[::50] + np.float32(0.2)
    found = store.search_batch(queries, k=10, ef_search=500, filter=filter)
    exact = store.search_batch(queries, k=10, exact=True, filter=filter)
    alike = 0
    for some, all_of_them in zip(found, exact, strict=True):
        names = {hit.key for hit in some}
        assert len(names) == len(some) == len(all_of_them)
        alike += len(names & {hit.key for hit in all_of_them})
    return alike / (10 * len(queries))


def start(path: Path, rows: Rows) -> None:
    """A store of which the second half is in no index."""
    with opened(path) as store:
        store.insert_batch(keys(range(COUNT // 2)), rows[: COUNT // 2])
        store.build_index("hnsw", m=16)
        store.insert_batch(keys(range(COUNT // 2, COUNT)), rows[COUNT // 2 :])


def test_searches_have_what_came_later_coded(tmp_path: Path) -> None:
    rows = made()
    start(tmp_path / "a.db", rows)
    with opened(tmp_path / "a.db") as store:
        assert plain(store) == COUNT // 2, "the tail is not saved"
        search_until_coded(store, rows)
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["rows"], stats["tail"]) == ("hnsw", COUNT // 2, COUNT // 2)
        assert recall(store, rows) >= 0.99
        odd = KeyFilter(glob="*[13579]")
        assert recall(store, rows, odd) >= 0.99
        for number in range(0, COUNT, 40):
            store.delete(str(number))
            store.insert(str(number + 1), -rows[number])
        assert recall(store, rows) >= 0.99
        assert store.search(-rows[0], k=1)[0].key == "1"


def test_threads_search_and_insert_while_it_is_coded(tmp_path: Path) -> None:
    rows = made()
    start(tmp_path / "a.db", rows)
    with opened(tmp_path / "a.db") as store:
        inserted, failures, ends = [0], [], threading.Event()

        def search() -> None:
            while not ends.is_set():
                number = inserted[0]
                if not number:
                    continue
                found = store.search(rows[(number - 1) % COUNT] * 2, k=5)
                if f"late {number - 1}" not in {hit.key for hit in found}:
                    failures.append(number)

        thread = threading.Thread(target=search)
        thread.start()
        try:
            for number in range(3000):
                store.insert(f"late {number}", rows[number] * 2)
                inserted[0] = number + 1
        finally:
            ends.set()
            thread.join(60)
        assert not failures
        search_until_coded(store, rows)
        assert recall(store, rows) >= 0.99


def test_pieces_are_made_of_what_was_coded(tmp_path: Path) -> None:
    """Behind a graph, while a thread inserts and deletes; as many as an index finds."""
    rows, count, piece = made(), 3 * COUNT, 32 * LEAST
    with opened(tmp_path / "a.db") as store:
        store.insert_batch(keys(range(1000)), rows[:1000])
        store.build_index("hnsw", m=16)
        scale = 1 + np.arange(count // COUNT)[:, None, None] / 8
        later = np.ascontiguousarray((rows * scale).reshape(-1, WIDTH), np.float32)
        store.insert_batch([f"later {number}" for number in range(count)], later)

        def write() -> None:
            for number in range(500):
                store.insert(f"late {number}", rows[number] * 3)
                store.delete(f"later {number}")

        thread = threading.Thread(target=write)
        thread.start()
        for number in range(400):
            if (stats := store.index_stats() or {})["pieces"]:
                break
            store.search(rows[number], k=1)  # Seldom: after some hundreds an index is built.
            time.sleep(0.02 * min(number + 1, 10))
        assert stats["pieces"] > 0, stats
        thread.join(60)
        stats = store.index_stats() or {}
        assert stats["seal_failure"] is None, stats
        assert stats["coded"] >= piece - 500, stats
        assert stats["rows"] + stats["tail"] == len(store) == 1000 + count
        assert recall(store, rows) >= 0.99
        assert recall(store, rows, KeyFilter(glob="later *[13579]")) >= 0.99
        found = {hit.key for hit in store.search(rows[7] * 3, k=3)}
        assert "late 7" in found
        assert "later 7" not in {hit.key for hit in store.search(rows[7], k=200)}
        store.compact()
        assert recall(store, rows) >= 0.99


def _code_in_a_child(path: Path) -> None:
    rows = made()
    with opened(path) as store:
        search_until_coded(store, rows)
        assert recall(store, rows) >= 0.99


@pytest.mark.timeout(180)
def test_each_process_codes_for_itself(tmp_path: Path) -> None:
    rows, path = made(), tmp_path / "a.db"
    start(path, rows)
    with opened(path) as store:
        child = multiprocessing.get_context("spawn").Process(target=_code_in_a_child, args=(path,))
        child.start()
        child.join(120)
        assert child.exitcode == 0
        assert plain(store) == COUNT // 2
        search_until_coded(store, rows)
        assert recall(store, rows) >= 0.99


def test_a_forked_child_codes_on(tmp_path: Path) -> None:
    rows, path = made(), tmp_path / "a.db"
    start(path, rows)
    with opened(path) as store:
        search_until_coded(store, rows)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                search_until_coded(store, rows)
                status = 0 if recall(store, rows) >= 0.99 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert recall(store, rows) >= 0.99
