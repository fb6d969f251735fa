"""`as_array` of vectors that lie in several places: one view, page by page, or a copy."""

import gc
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synadb import HybridVectorStore, VectorStore
from synadb.errors import CorruptionError


def random_rows(count: int, width: int, seed: int = 7) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def names(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def own_bytes() -> int:
    """Bytes of memory of this process that no file holds."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) << 10


def insert(store: VectorStore, rows: NDArray[np.float32], batch: int) -> list[str]:
    """Inserts rows batch by batch; returns their keys."""
    keys = names(len(rows))
    for at in range(0, len(rows), batch):
        store.insert_batch(keys[at : at + batch], rows[at : at + batch])
    return keys


@pytest.mark.parametrize(
    ("width", "batch"),
    [
        (384, 1000),
        (384, 333),
        (100, 1000),
        (3, 5001),
        (1536, 21),
        (16, 4096),
        (1040, 77),
        (7, 9001),
    ],
)
def test_batches_of_any_size_are_one_view(tmp_path: Path, width: int, batch: int) -> None:
    rows = random_rows(20 * batch, width)
    with VectorStore(tmp_path / "a.db", width, sync_on_write=False) as store:
        keys = insert(store, rows, batch)
        assert len(store.as_blocks()) == 20
        matrix, found = store.as_array(copy=False)
        assert (found, matrix.tobytes()) == (keys, rows.tobytes())
        assert (matrix.flags.owndata, matrix.flags.writeable) == (False, False)
        assert matrix.shape == rows.shape
        assert matrix.strides == (-(-4 * width // 64) * 64, 4)
        assert matrix.ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            matrix.setflags(write=True)
        assert store.as_array(copy=True)[0].flags.owndata


@pytest.mark.parametrize("width", [64, 300, 1024])
def test_vectors_that_came_one_by_one_are_one_view(tmp_path: Path, width: int) -> None:
    rows = random_rows((4 << 20) // (4 * width), width)
    with VectorStore(tmp_path / "a.db", width, sync_on_write=False) as store:
        keys = names(len(rows))
        for key, row in zip(keys, rows, strict=True):
            store.insert(key, row)
        assert len(store.as_blocks()) > 5
        matrix, found = store.as_array(copy=False)
        assert (found, matrix.tobytes()) == (keys, rows.tobytes())


def test_what_came_in_every_way_is_shown_whole_and_one_view_after_a_compaction(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.db"
    rows = random_rows(40_000, 48)
    keys = names(len(rows))
    at = 0
    for _ in range(4):
        with VectorStore(path, 48, sync_on_write=False) as store:
            for size in (1, 1, 1701, 40, 3, 5000, 999, 1, 2000):
                store.insert_batch(keys[at : at + size], rows[at : at + size])
                at += size
            wanted = dict(zip(keys[:at], map(bytes, rows), strict=False))
            # Not in the order of the inserts: single ones fill what was reserved for such.
            matrix, found = store.as_array()
            assert dict(zip(found, map(bytes, matrix), strict=True)) == wanted
            store.compact()
        with VectorStore(path, access="read_only") as store:
            matrix, found = store.as_array(copy=False)
            assert dict(zip(found, map(bytes, matrix), strict=True)) == wanted


def test_large_table_is_one_view_without_a_copy(tmp_path: Path) -> None:
    """Of more bytes than one commit of Python's, and than one extent of a compaction."""
    rows = random_rows(200_000, 350)
    with VectorStore(tmp_path / "a.db", 350, sync_on_write=False) as store:
        keys = names(len(rows))
        store.insert_batch(keys, rows)
        for _ in range(2):
            assert len(store.as_blocks()) > 1
            before = own_bytes()
            matrix, found = store.as_array(copy=False)
            assert np.array_equal(matrix, rows[: len(keys)])
            assert own_bytes() - before < rows.nbytes / 8, "the keys, and no vector"
            assert found == keys
            del matrix, found
            gc.collect()
            store.delete(keys.pop())
            store.compact()


def test_delete_takes_the_view_away_until_a_compaction(tmp_path: Path) -> None:
    rows = random_rows(4000, 96)
    with VectorStore(tmp_path / "a.db", 96, sync_on_write=False) as store:
        keys = insert(store, rows, 2000)
        assert not store.as_array(copy=False)[0].flags.owndata
        del store["k1001"]
        with pytest.raises(ValueError, match=r"copy=False: .*3 places.*as_blocks"):
            store.as_array(copy=False)
        matrix, found = store.as_array()
        assert matrix.flags.owndata
        left = np.delete(rows, 1001, axis=0)
        assert (found, matrix.tobytes()) == (keys[:1001] + keys[1002:], left.tobytes())
        store.compact()
        store.insert_batch(["a", *names(700, "l")], random_rows(701, 96, seed=5))
        matrix, found = store.as_array(copy=False)
        assert found[:3999] == keys[:1001] + keys[1002:]
        assert matrix[:3999].tobytes() == left.tobytes()
        assert matrix[3999:].tobytes() == random_rows(701, 96, seed=5).tobytes()


def test_vectors_of_a_page_are_a_view_whatever_is_deleted(tmp_path: Path) -> None:
    rows = random_rows(400, 1024)
    with VectorStore(tmp_path / "a.db", 1024, sync_on_write=False) as store:
        keys = insert(store, rows, 100)
        for number in (3, 4, 150, 399):
            del store[keys[number]]
        keep = np.setdiff1d(np.arange(400), [3, 4, 150, 399])
        matrix, found = store.as_array(copy=False)
        assert found == [keys[number] for number in keep]
        assert matrix.tobytes() == rows[keep].tobytes()


def test_joined_view_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rows = random_rows(4096, 64)
    store = VectorStore(path, 64, access="exclusive")
    keys = insert(store, rows, 1024)
    matrix, found = store.as_array(copy=False)
    part = matrix[1990:2010, 3:]
    store.insert_batch(keys, random_rows(4096, 64, seed=3))
    store.compact()
    store.insert_batch(names(4000, "l"), random_rows(4000, 64, seed=4))
    store.close()
    del store
    gc.collect()
    writes = f"import synadb; synadb.VectorStore({str(path)!r}).insert('a', [1] * 64)"
    subprocess.run([sys.executable, "-c", writes], check=True, timeout=60)
    assert (found, matrix.tobytes()) == (keys, rows.tobytes())
    del matrix
    gc.collect()
    assert part.tobytes() == rows[1990:2010, 3:].tobytes()
    path.unlink()
    assert part.tobytes() == rows[1990:2010, 3:].tobytes()


def test_joined_views_beside_writers_are_whole_rows(tmp_path: Path) -> None:
    with VectorStore(tmp_path / "a.db", 64, sync_on_write=False) as store:
        done = threading.Event()

        def write() -> None:
            many = np.repeat(np.arange(1, 1001, dtype=np.float32), 64).reshape(-1, 64)
            for batch in range(60):
                store.insert_batch([f"{batch} {number}" for number in range(1000)], many + batch)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        joined = 0
        while not done.is_set() or joined == 0:
            matrix, keys = store.as_array(copy=False)
            assert len(matrix) == len(keys)
            assert (matrix > 0).all()
            assert (matrix == matrix[:, :1]).all()
            joined += len(matrix) > 2000
        writer.join()
        assert len(store.as_array()[1]) == 60_000


def test_damaged_row_of_a_joined_view_is_an_error_by_key(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    rows = random_rows(4000, 100)
    with VectorStore(path, 100) as store:
        insert(store, rows, 1000)
    content = path.read_bytes()
    at = content.index(rows[2345].tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with (
        VectorStore(path, access="read_only") as store,
        pytest.raises(CorruptionError, match="k2345"),
    ):
        store.as_array()


def test_forked_child_reads_the_joined_view_of_its_parent(tmp_path: Path) -> None:
    code = f"""
import os, numpy as np, synadb
store = synadb.VectorStore({str(tmp_path / "a.db")!r}, 64)
for batch in range(4):
    rows = np.full((1000, 64), batch + 1, np.float32)
    store.insert_batch([f"{{batch}} {{number}}" for number in range(1000)], rows)
matrix, keys = store.as_array(copy=False)
child = os.fork()
if child == 0:
    os._exit(0 if matrix.sum() == 64_000 * 10 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_more_pieces_than_a_process_may_have_are_copied(tmp_path: Path) -> None:
    rows = random_rows(20_000, 1024)
    with VectorStore(tmp_path / "a.db", 1024, sync_on_write=False) as store:
        keys = insert(store, rows, len(rows))
        for key in keys[::2]:
            del store[key]
        matrix, found = store.as_array()
        assert matrix.flags.owndata
        assert (found, matrix.tobytes()) == (keys[1::2], rows[1::2].tobytes())


def test_rows_of_two_tables_are_one_view(tmp_path: Path) -> None:
    rows = random_rows(3072, 64)
    with HybridVectorStore(tmp_path / "a.hot", tmp_path / "a.cold", dimensions=64) as store:
        store.ingest_batch(names(1024), rows[:1024])
        store.promote_to_cold()
        store.ingest_batch(names(2048, "l"), rows[1024:])
        matrix, keys = store.as_array(copy=False)
        assert keys[:2048] == names(2048, "l")
        assert matrix[:2048].tobytes() == rows[1024:].tobytes()
        stored = {key: row.tobytes() for key, row in zip(keys[2048:], matrix[2048:], strict=True)}
        assert stored == {f"k{number}": rows[number].tobytes() for number in range(1024)}
        del store["l1000"]
        with pytest.raises(ValueError, match="copy=False"):
            store.as_array(copy=False)
        assert len(store.as_array()[1]) == 3071
