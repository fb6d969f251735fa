"""Indexes that are built without being asked for."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from index_waits import search_until_indexed

import synadb
from synadb import VectorStore

COUNT, WIDTH, LEAST = 3000, 48, 500
Rows = npt.NDArray[np.float32]


@pytest.fixture
def rows() -> Rows:
    random = np.random.default_rng(7)
    centres = random.standard_normal((40, WIDTH), dtype=np.float32)
    return (
        centres[random.integers(0, 40, COUNT)]
        + 0.5 * random.standard_normal((COUNT, WIDTH), dtype=np.float32)
    ).astype(np.float32)


def opened(path: Path, **options: object) -> VectorStore:
    keywords = {"sync_on_write": False, "index_threshold": LEAST, **options}
    return VectorStore(path, WIDTH, **keywords)  # type: ignore[arg-type]


def keys(numbers: range) -> list[str]:
    return [str(number) for number in numbers]


def search_until(store: VectorStore, rows: Rows, is_done: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < end, store.index_stats()
        for number in range(0, len(rows), 97):
            assert store.search(rows[number], k=1)[0].key == str(number)


def indexed(store: VectorStore) -> int:
    stats = store.index_stats()
    return 0 if stats is None else int(stats["rows"])


def test_searches_have_an_index_built(tmp_path: Path, rows: Rows) -> None:
    with opened(tmp_path / "a.db") as store:
        store.insert_batch(keys(range(COUNT)), rows)
        assert store.index_stats() is None
        assert store.resolved_backend == "flat"
        search_until(store, rows, lambda: indexed(store) == COUNT)
        queries = rows[:64] + np.float32(0.1)
        found = store.search_batch(queries, k=10)
        exact = store.search_batch(queries, k=10, exact=True)
        alike = sum(
            len({hit.key for hit in some} & {hit.key for hit in all_of_them})
            for some, all_of_them in zip(found, exact, strict=True)
        )
        assert alike >= 0.99 * 640
    with opened(tmp_path / "a.db", access="read_only") as store:
        assert indexed(store) == COUNT


def test_flat_stays_exact_also_when_pickled(tmp_path: Path, rows: Rows) -> None:
    with opened(tmp_path / "a.db", backend="flat") as store:
        store.insert_batch(keys(range(COUNT)), rows)
        with pickle.loads(pickle.dumps(store)) as copy:  # our own bytes
            assert copy.backend == "flat"
            for _ in range(4):
                copy.search_batch(rows[:64], k=1)
                store.search_batch(rows[:64], k=1)
            time.sleep(0.2)
            assert copy.index_stats() is None
            assert store.index_stats() is None


def test_hnsw_is_what_is_built_where_it_was_asked_for(tmp_path: Path, rows: Rows) -> None:
    with opened(tmp_path / "a.db", backend="hnsw") as store:
        store.insert_batch(keys(range(COUNT)), rows)
        search_until(store, rows, lambda: indexed(store) == COUNT)
        assert store.resolved_backend == "hnsw"


def test_others_search_and_write_while_it_is_built(tmp_path: Path, rows: Rows) -> None:
    with opened(tmp_path / "a.db", backend="hnsw") as store:
        store.insert_batch(keys(range(COUNT)), rows)
        ends, failures = threading.Event(), []

        def write() -> None:
            number = COUNT
            try:
                while not ends.is_set():
                    store.insert(f"late {number}", rows[number % COUNT] + np.float32(9))
                    number += 1
            except synadb.SynaError as error:
                failures.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            search_until(store, rows, lambda: indexed(store) >= COUNT)
        finally:
            ends.set()
            writer.join(60)
        assert not failures
        assert len(store) == len(store.keys())
        newest = max(int(key.split()[1]) for key in store if key.startswith("late"))
        nearest = store.search(rows[newest % COUNT] + np.float32(9), k=1)[0]
        assert nearest.score == pytest.approx(0.0, abs=1e-6)


def _build_in_a_child(path: Path, rows: Rows) -> None:
    with opened(path) as store:
        search_until(store, rows, lambda: indexed(store) == COUNT)


@pytest.mark.timeout(180)
def test_one_process_takes_over_what_another_built(tmp_path: Path, rows: Rows) -> None:
    path = tmp_path / "a.db"
    with opened(path, backend="hnsw") as store:
        store.insert_batch(keys(range(COUNT)), rows)
        child = multiprocessing.get_context("spawn").Process(
            target=_build_in_a_child, args=(path, rows)
        )
        child.start()
        child.join(120)
        assert child.exitcode == 0
        search_until(store, rows, lambda: indexed(store) == COUNT)
        # It would be a graph if this process had built it.
        assert store.resolved_backend == "flat"


@pytest.mark.parametrize("bad", [0, -1])
def test_index_threshold_is_checked(tmp_path: Path, bad: int) -> None:
    with pytest.raises(synadb.InvalidArgumentError, match=f"index_threshold.*{bad}"):
        VectorStore(tmp_path / "a.db", WIDTH, index_threshold=bad)
    with pytest.raises(TypeError):
        VectorStore(tmp_path / "a.db", WIDTH, index_threshold="many")  # type: ignore[arg-type]
    assert not (tmp_path / "a.db").exists()


def test_index_of_its_own_and_one_that_follows_are_tuned_to_the_recall(
    tmp_path: Path, rows: Rows
) -> None:
    with opened(tmp_path / "own.db", target_recall=0.93) as store:
        store.insert_batch(keys(range(COUNT)), rows)
        search_until_indexed(store, rows[:64], COUNT)
        stats = store.index_stats()
        assert stats is not None
        assert stats["target_recall"] == 0.93
        assert 10 in [tuned["k"] for tuned in stats["tuned"]]
    with opened(tmp_path / "grown.db") as store:
        store.insert_batch(keys(range(LEAST)), rows[:LEAST])
        store.build_index("hnsw", target_recall=0.92)
        store.insert_batch(keys(range(LEAST, COUNT)), rows[LEAST:])
        search_until_indexed(store, rows[:64], COUNT)
        stats = store.index_stats()
        assert stats is not None
        assert (stats["kind"], stats["target_recall"]) == ("hnsw", 0.92)
        assert 10 in [tuned["k"] for tuned in stats["tuned"]]
