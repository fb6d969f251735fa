"""One vector store, written to by several processes, whichever way they were started."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 8
PROCESSES = 3
KEYS = 60
"""Keys of each process: a third is replaced, a third deleted, a third stays."""
WAIT_S = 60.0


def vector(process: int, number: int, version: int = 0) -> NDArray[np.float32]:
    seed = np.random.default_rng([process, number, version])
    return seed.normal(size=WIDTH).astype(np.float32)


def expected(processes: int) -> dict[str, NDArray[np.float32]]:
    """What the store holds once so many processes are done."""
    return {
        f"{process}/{number}": vector(process, number, int(number % 3 == 0))
        for process in range(processes)
        for number in range(KEYS)
        if number % 3 != 1
    }


def check(store: VectorStore, processes: int) -> None:
    """The store holds exactly what all have written, and finds each of it."""
    wanted = expected(processes)
    everyones = store.get("everyone's")
    assert everyones is not None
    assert everyones.tolist() in [vector(p, KEYS).tolist() for p in range(processes)]
    assert store.keys() == sorted([*wanted, "everyone's"])
    for key, row in wanted.items():
        assert store[key].tobytes() == row.tobytes(), key
        assert store.search(row, k=1)[0].key == key
    assert len(store.search(np.ones(WIDTH), k=10_000)) == len(wanted) + 1


def work(store: VectorStore, process: int, barrier: Any, failures: Any) -> None:
    """Insert, replace and delete beside the others, then see what everybody did."""
    try:
        barrier.wait(WAIT_S)
        half = KEYS // 2
        for number in range(half):
            store.insert(f"{process}/{number}", vector(process, number))
            store.insert("everyone's", vector(process, KEYS))
        rest = range(half, KEYS)
        store.insert_batch(
            [f"{process}/{number}" for number in rest],
            np.array([vector(process, number) for number in rest]),
        )
        for number in range(KEYS):
            if number % 3 == 0:
                store.update(f"{process}/{number}", vector(process, number, 1))
            elif number % 3 == 1:
                assert store.delete(f"{process}/{number}")
        barrier.wait(WAIT_S)
        check(store, PROCESSES)
        store.close()
    except BaseException as error:
        failures.put(f"process {process}: {type(error).__name__}: {error}")
        barrier.abort()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_no_process_overwrites_anothers_vectors(path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    barrier, failures = context.Barrier(PROCESSES), context.Queue()
    with VectorStore(path, WIDTH, metric="euclidean", sync_on_write=False) as store:
        store.insert("everyone's", vector(0, KEYS))
        workers = [
            context.Process(target=work, args=(store, process, barrier, failures))
            for process in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(2 * WAIT_S)
        codes = [worker.exitcode for worker in workers]
        for worker in workers:
            worker.kill()
        assert failures.empty(), failures.get()
        assert codes == [0] * PROCESSES
        check(store, PROCESSES)
        assert store.verify()["ok"]
        assert store.stats()["bytes_by_table"]["vector:vec/"]["history"] == 0
    with VectorStore(path, access="exclusive") as again:
        check(again, PROCESSES)


@pytest.mark.timeout(120)
def test_stores_on_a_reader_move_with_it(path: Path) -> None:
    with SynaDB(path) as db, VectorStore(db, 2, name="v") as written:
        db.put("k", 1)
        written.insert("a", [1.0, 0.0])
        with (
            SynaDB(path, access="read_only") as reader,
            VectorStore(reader, 2, name="v") as store,
            VectorStore(path, 2, name="v", access="read_only") as alone,
        ):
            db.put("k", 2)
            written.insert("b", [0.0, 1.0])
            assert (reader["k"], store.keys(), alone.keys()) == (1, ["a"], ["a"])
            assert store.refresh()
            assert (reader["k"], store.keys(), alone.keys()) == (2, ["a", "b"], ["a"])
            written.delete("a")
            assert reader.refresh()
            assert (store.keys(), alone.keys()) == (["b"], ["a"])


def test_reader_sees_vectors_of_several_writers_by_refresh(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, failures = context.Barrier(PROCESSES), context.Queue()
    with VectorStore(path, WIDTH, metric="euclidean", sync_on_write=False) as store:
        store.insert("everyone's", vector(0, KEYS))
        with VectorStore(path, access="read_only") as reader:
            workers = [
                context.Process(target=work, args=(store, process, barrier, failures))
                for process in range(PROCESSES)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(2 * WAIT_S)
            assert failures.empty(), failures.get()
            reader.refresh()
            check(reader, PROCESSES)
