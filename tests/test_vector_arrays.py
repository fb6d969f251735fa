"""Many vectors in one call: by key, as answers in arrays, as views of the mapped file."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import HybridVectorStore, SynaDB, VectorStore
from synadb.errors import (
    CorruptionError,
    DatabaseClosedError,
    DimensionError,
    EmptyKeyError,
    InvalidArgumentError,
    KeyNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


def random_rows(count: int, width: int = 8, seed: int = 7) -> NDArray[np.float32]:
    """Rows of float32 from a fixed seed."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def names(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def test_get_batch_is_bit_identical_and_in_order(store: VectorStore) -> None:
    rows = random_rows(40_000)
    rows[3, :2] = -0.0, 1e-42
    store.insert_batch(names(40_000), rows)
    order = np.random.default_rng(1).permutation(40_000)
    got = store.get_batch([f"k{n}" for n in order] + ["k3"])
    assert (got.dtype, got.shape, got.flags.writeable) == (np.float32, (40_001, 8), True)
    assert got.tobytes() == np.vstack([rows[order], rows[3:4]]).tobytes()
    assert store.get_batch([]).shape == (0, 8)


def test_get_batch_names_the_absent_key_or_takes_the_default(store: VectorStore) -> None:
    rows = random_rows(2)
    store.insert_batch(["a", "b"], rows)
    store.delete("b")
    with pytest.raises(KeyNotFoundError, match="b"):
        store.get_batch(["a", "b"])
    assert np.isnan(store.get_batch(["a", "b"], default=np.nan)[1]).all()
    stand_in = np.arange(8, dtype=np.float32)
    assert store.get_batch(iter(["x", "a"]), stand_in).tolist() == [
        stand_in.tolist(),
        rows[0].tolist(),
    ]


def test_get_batch_refuses_by_name(store: VectorStore) -> None:
    with pytest.raises(TypeError, match="keys"):
        store.get_batch({"a", "b"})
    with pytest.raises(TypeError, match="keys"):
        store.get_batch("ab")
    with pytest.raises(EmptyKeyError):
        store.get_batch([""], 0.0)
    with pytest.raises(DimensionError, match="Default"):
        store.get_batch([], [1.0, 2.0])
    with pytest.raises(TypeError, match="default"):
        store.get_batch([], "0")  # type: ignore[arg-type]
    store.close()
    with pytest.raises(DatabaseClosedError):
        store.get_batch([])


def test_arrays_of_a_search_are_its_results(store: VectorStore) -> None:
    rows = random_rows(3000)
    store.insert_batch(names(3000), rows)
    queries = random_rows(333, seed=8)
    lists = store.search_batch(queries, 7)
    for threads in (1, 2, 5):
        keys, scores = store.search_batch(queries, 7, as_arrays=True, threads=threads)
        assert (keys.shape, scores.shape, scores.dtype) == ((333, 7), (333, 7), np.float32)
        assert keys.tolist() == [[hit.key for hit in hits] for hits in lists]
        assert scores.tolist() == [[hit.score for hit in hits] for hits in lists]
        assert store.search_batch(queries, 7, threads=threads) == lists


def test_rows_with_fewer_hits_are_padded(store: VectorStore) -> None:
    store.insert_batch(names(3), random_rows(3))
    keys, scores = store.search_batch(random_rows(2, seed=9), 5, as_arrays=True)
    assert [row[3:] for row in keys.tolist()] == [[None, None]] * 2
    assert np.isinf(scores[:, 3:]).all()
    assert np.isfinite(scores[:, :3]).all()
    keys, scores = store.search_batch(np.empty((0, 8), np.float32), 5, as_arrays=True)
    assert keys.shape == scores.shape == (0, 5)
    keys, scores = store.search_batch(random_rows(2), 0, as_arrays=True)
    assert keys.shape == scores.shape == (2, 0)
    with pytest.raises(InvalidArgumentError, match="threads"):
        store.search_batch(random_rows(2), threads=0)


@pytest.mark.parametrize("width", [3, 16])
def test_one_batch_is_a_read_only_view_of_the_file(path: Path, width: int) -> None:
    rows = random_rows(500, width)
    with VectorStore(path, width) as store:
        store.insert_batch(names(500), rows)
        matrix, keys = store.as_array(copy=False)
        assert (matrix.tobytes(), keys) == (rows.tobytes(), names(500))
        assert not matrix.flags.owndata
        assert not matrix.flags.writeable
        assert matrix.strides == (64, 4)
        assert matrix.ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            matrix.setflags(write=True)
        copied, _ = store.as_array(copy=True)
        assert copied.flags.owndata
        assert not copied.flags.writeable
        assert copied.tobytes() == rows.tobytes()


def test_copy_where_rows_lie_apart(store: VectorStore) -> None:
    rows = random_rows(300)
    store.insert_batch(names(100), rows[:100])
    store.insert_batch(names(200, "l"), rows[100:])
    store.delete("k10")
    store.insert("k20", rows[10])
    live = {key: store[key].tobytes() for key in store}
    with pytest.raises(ValueError, match="as_blocks"):
        store.as_array(copy=False)
    matrix, keys = store.as_array()
    assert matrix.flags.owndata
    assert {key: row.tobytes() for key, row in zip(keys, matrix, strict=True)} == live
    blocks = store.as_blocks()
    assert len(blocks) > 2
    assert not any(view.flags.owndata or view.flags.writeable for view, _ in blocks)
    found = {
        key: row.tobytes() for view, keys in blocks for key, row in zip(keys, view, strict=True)
    }
    assert found == live
    store.compact()
    assert not store.as_array(copy=False)[0].flags.owndata


def test_empty_store_gives_an_empty_matrix(store: VectorStore) -> None:
    for copy in (None, False, True):
        matrix, keys = store.as_array(copy=copy)
        assert (matrix.shape, keys, store.as_blocks()) == ((0, 8), [], [])
    store.insert("k", random_rows(1)[0])
    store.delete("k")
    assert store.as_array()[0].shape == (0, 8)


def test_view_stays_as_it_was_after_writes_compaction_and_close(path: Path) -> None:
    rows = random_rows(2000)
    store = VectorStore(path, 8)
    store.insert_batch(names(2000), rows)
    matrix, keys = store.as_array(copy=False)
    part = matrix[5:10, 2:]
    store.insert_batch(names(2000), random_rows(2000, seed=3))
    store.compact()
    with SynaDB(path) as db:
        db.put_many({f"v{n}": "x" * 500 for n in range(2000)})
    store.close()
    del store
    gc.collect()
    assert (matrix.tobytes(), keys) == (rows.tobytes(), names(2000))
    del matrix
    gc.collect()
    assert part.tobytes() == rows[5:10, 2:].tobytes()


def test_view_does_not_keep_a_forgotten_store_open(path: Path) -> None:
    rows = random_rows(100)
    store = VectorStore(path, 8, access="exclusive")
    store.insert_batch(names(100), rows)
    matrix, _ = store.as_array(copy=False)
    del store
    gc.collect()
    writes = f"import synadb; synadb.VectorStore({str(path)!r}).insert('a', [1] * 8)"
    subprocess.run([sys.executable, "-c", writes], check=True, timeout=60)
    assert matrix.tobytes() == rows.tobytes()


def test_views_beside_writers_are_whole_rows(path: Path) -> None:
    with VectorStore(path, 8, sync_on_write=False) as store:
        done = threading.Event()

        def write() -> None:
            for n in range(1, 1500):
                store.insert(f"s{n}", np.full(8, n, np.float32))
                if n % 100 == 0:
                    many = np.repeat(np.arange(n, n + 3000, dtype=np.float32), 8)
                    store.insert_batch([f"{n} {m}" for m in range(3000)], many.reshape(-1, 8))
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            for view, keys in store.as_blocks():
                assert len(view) == len(keys)
                assert (view > 0).all()
                assert (view == view[:, :1]).all()
        writer.join()


def test_damaged_row_is_an_error_by_key(path: Path) -> None:
    rows = random_rows(100)
    with VectorStore(path, 8) as store:
        store.insert_batch(names(100), rows)
    content = path.read_bytes()
    at = content.index(rows[40].tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with VectorStore(path, access="read_only") as store:
        for call in (store.as_array, store.as_blocks, lambda: store.get_batch(["k1", "k40"])):
            with pytest.raises(CorruptionError, match="k40"):
                call()
        assert store.get_batch(["k1"]).tobytes() == rows[1].tobytes()


def turns_during(call: Callable[[], object]) -> int:
    """How often another thread had its turn during a call, where none is told to give way."""
    turns, gate, ends, never = 0, threading.Lock(), threading.Event(), threading.Event()

    def take_turns() -> None:
        nonlocal turns
        gate.acquire()
        while not ends.is_set():
            turns += 1
            # It gives way by itself.
            never.wait(0.0005)

    gate.acquire()
    thread = threading.Thread(target=take_turns)
    thread.start()
    interval = sys.getswitchinterval()
    # No thread has to release the GIL within the test: who waits gets it where it is given up.
    sys.setswitchinterval(1000.0)
    try:
        gate.release()
        call()
        return turns
    finally:
        ends.set()
        sys.setswitchinterval(interval)
        thread.join()


ENOUGH_TURNS = 10
"""More than there are before a long call begins and after it has ended."""


@pytest.mark.parametrize("store_of", ["scan", "graph", "hybrid"])
@pytest.mark.parametrize("as_arrays", [False, True])
def test_batch_search_lets_other_threads_of_python_run(
    tmp_path: Path, store_of: str, as_arrays: bool
) -> None:
    rows = random_rows(10_000, 16)
    store: Any
    if store_of == "hybrid":
        store = HybridVectorStore(tmp_path / "hot", tmp_path / "cold", 16)
        store.ingest_batch(names(5_000), rows[:5_000])
        store.promote_to_cold()
        store.ingest_batch(names(5_000, "l"), rows[5_000:])
    else:
        store = VectorStore(tmp_path / "a.db", 16, sync_on_write=False)
        store.insert_batch(names(10_000), rows)
        if store_of == "graph":
            store.build_index("hnsw", ef_search=50)
    assert turns_during(lambda: sum(range(3_000_000))) == 0, "this gives nobody a turn"
    most = 0
    for count in (2_000, 4_000, 8_000, 16_000, 32_000, 64_000):
        queries = random_rows(count, 16, seed=8)
        search = partial(store.search_batch, queries, threads=1, as_arrays=as_arrays)
        most = turns_during(search)
        if most >= ENOUGH_TURNS:
            break
    store.close()
    assert most >= ENOUGH_TURNS
