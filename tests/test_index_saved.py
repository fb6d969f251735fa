"""What a build says: whether the file has the index, and the store is as good without."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    VectorStore,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KINDS = ("flat", "gravity_well", "hnsw", "cascade")
COUNT, WIDTH = 1_200, 48


@pytest.fixture
def rows() -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((COUNT, WIDTH), dtype=np.float32)


def filled(path: Path, rows: NDArray[np.float32]) -> VectorStore:
    store = VectorStore(path, WIDTH, sync_on_write=False)
    store.insert_batch([str(n) for n in range(len(rows))], rows)
    return store


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_build_says_that_the_file_has_it(path: Path, rows: NDArray[np.float32], kind: str) -> None:
    with filled(path, rows) as store:
        store.build_index(kind)
        assert store.index_saved is True
        with VectorStore(path, access="read_only") as reader:
            assert reader.has_index == (kind != "none")
            reader.build_index("flat")
            assert reader.index_saved is False
            assert reader.resolved_backend == "flat"
    with VectorStore(path) as store:
        assert store.has_index == (kind != "none")


def test_each_store_says_it(tmp_path: Path, rows: NDArray[np.float32]) -> None:
    for kind in (MmapVectorStore, GravityWellIndex, CascadeIndex):
        with kind(tmp_path / kind.__name__, WIDTH) as store:
            store.insert_batch([str(n) for n in range(COUNT)], rows)
            store.build_index()
            assert store.index_saved is True
    with HybridVectorStore(tmp_path / "hot", tmp_path / "cold", WIDTH) as hybrid:
        hybrid.ingest_batch([str(n) for n in range(COUNT)], rows)
        hybrid.promote_to_cold()
        assert hybrid.build_cold() is True


@pytest.mark.parametrize("kind", KINDS)
def test_build_that_cannot_be_saved_says_so_and_is_used(
    path: Path, rows: NDArray[np.float32], kind: str
) -> None:
    checkpoint = path.with_name(path.name + "-ckpt")
    with filled(path, rows) as store:
        checkpoint.unlink(missing_ok=True)
        checkpoint.mkdir()
        store.build_index(kind)
        assert store.index_saved is False
        assert store.resolved_backend == kind
        assert store.search(rows[7], 1)[0].key == "7"
        checkpoint.rmdir()
        store.build_index(kind)
        assert store.index_saved is True
    with VectorStore(path) as store:
        assert store.resolved_backend == kind


def kind_in_file(path: Path) -> str | None:
    """What who opens the file now finds there."""
    with VectorStore(path, access="read_only") as reader:
        stats = reader.index_stats()
        return stats and stats["kind"]


@pytest.mark.parametrize("said", [None, True, False])
def test_build_that_leaves_the_index_as_it_was_leaves_what_was_said(
    path: Path, rows: NDArray[np.float32], said: bool | None
) -> None:
    checkpoint = path.with_name(path.name + "-ckpt")
    refused: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"progress": lambda *_: False}, synadb.CancelledError),
        ({"progress": lambda *_: 1 // 0}, ZeroDivisionError),
        ({"kind": "tree"}, synadb.InvalidArgumentError),
        ({"threads": 0}, synadb.InvalidArgumentError),
        ({"m": 1.5}, TypeError),
    ]
    with filled(path, rows) as store:
        if said is not None:
            checkpoint.unlink(missing_ok=True)
            if not said:
                checkpoint.mkdir()
            store.build_index("flat")
            assert store.index_saved is said
        for given, error in refused:
            with pytest.raises(error):
                store.build_index(**{"kind": "hnsw", **given})
            assert store.index_saved is said
            assert store.has_index == (said is not None)
        if said is not False:
            assert kind_in_file(path) == ("flat" if said else None)


CHECKPOINT_LOCK = (1 << 62) + 5
"""The byte that is locked while a checkpoint is written; docs/format.md has them all."""


@contextmanager
def others_checkpoint(path: Path) -> Iterator[None]:
    """As if another process were writing one: a build puts its index in place, and cannot save."""
    with path.open("r+b") as file:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, CHECKPOINT_LOCK, 1, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        yield


def test_build_that_raises_with_its_index_in_place_says_that_the_file_has_it_not(
    path: Path, rows: NDArray[np.float32]
) -> None:
    filled(path, rows).close()
    with VectorStore(path, lock_timeout=0.2) as store:
        store.build_index("flat")
        assert store.index_saved is True
        with others_checkpoint(path):
            with pytest.raises(synadb.DatabaseLockedError):
                store.build_index("hnsw")
            assert store.index_saved is False
            assert store.resolved_backend == "hnsw"
            assert kind_in_file(path) == "flat"
        store.build_index("hnsw")
        assert store.index_saved is True
    assert kind_in_file(path) == "hnsw"


class Late(KeyboardInterrupt):
    """What the handler of a signal raises here."""


def test_build_that_a_signal_ends_too_late_says_that_the_file_has_it(
    path: Path, rows: NDArray[np.float32]
) -> None:
    """The signal comes when the index is in place, and before it can be saved."""
    filled(path, rows).close()
    is_locked, heard = threading.Event(), threading.Event()

    def handle(*_: object) -> None:
        heard.set()
        raise Late

    def interrupt() -> None:
        with others_checkpoint(path):
            is_locked.set()
            while not store.has_index:
                time.sleep(0.001)
            signal.raise_signal(signal.SIGINT)
            assert heard.wait(60)

    interrupter = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, handle)
    try:
        with VectorStore(path, lock_timeout=60) as store:
            assert store.index_saved is None
            interrupter.start()
            assert is_locked.wait(60)
            with pytest.raises(Late) as caught:
                store.build_index("hnsw")
            said = store.index_saved
            interrupter.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (said, kind_in_file(path)) == (True, "hnsw")
    assert caught.value.__notes__ == ["synadb: it came too late, the call is done: {'saved': True}"]


@pytest.mark.parametrize("cancelled", ["hot", "cold"])
def test_hybrid_build_that_raises_says_what_was_built_last(
    tmp_path: Path, rows: NDArray[np.float32], cancelled: str
) -> None:
    with HybridVectorStore(tmp_path / "hot", tmp_path / "cold", WIDTH) as store:
        keys = [str(n) for n in range(COUNT)]
        store.ingest_batch(keys[:600], rows[:600])
        store.promote_to_cold()
        store.ingest_batch(keys[600:], rows[600:])
        at = []

        def progress(*_: int) -> bool:
            is_hot = store.index_stats()["hot"] is None
            at.append("hot" if is_hot else "cold")
            return at[-1] != cancelled

        with pytest.raises(synadb.CancelledError):
            store.build_index(progress=progress)
        assert at[-1] == cancelled
        has = {name: stats is not None for name, stats in store.index_stats().items()}
        assert has == {"hot": cancelled == "cold", "cold": False}
        assert store.index_saved is (None if cancelled == "hot" else True)
        store.build_index()
        assert store.index_saved is True
        with pytest.raises(synadb.CancelledError):
            store.build_index("flat", source="hot", progress=lambda *_: False)
        assert store.index_saved is True


def test_sample_of_attractors_builds_and_says_it(tmp_path: Path, rows: NDArray[np.float32]) -> None:
    with HybridVectorStore(tmp_path / "hot", tmp_path / "cold", WIDTH) as hybrid:
        hybrid.initialize_hot(rows[:64])
        assert hybrid.index_saved is None, "of nothing there is none"
        hybrid.ingest_batch([str(n) for n in range(COUNT)], rows)
        hybrid.initialize_hot(rows[:64])
        assert hybrid.index_saved is True
    with GravityWellIndex(tmp_path / "wells", WIDTH) as wells:
        wells.insert_batch([str(n) for n in range(COUNT)], rows)
        wells.initialize(rows[:64])
        assert wells.index_saved is True


FULL = """
import resource, signal, sys
import numpy as np
from synadb import VectorStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with VectorStore(sys.argv[1], sync_on_write=False) as store:
    row = store["7"]
    before = store.keys()
    # As on a full disk: the graph is larger than that.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))
    assert store.index_saved is None
    store.build_index("hnsw")
    said = store.index_saved
    assert store.has_index and store.keys() == before
    assert store.search(row, 1)[0].key == "7"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    store.build_index("hnsw")
    print(said, store.index_saved)
"""


def test_build_beyond_the_largest_file_says_so_and_is_used(
    path: Path, rows: NDArray[np.float32]
) -> None:
    filled(path, rows).close()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["False", "True"]
    with VectorStore(path) as store:
        assert store.resolved_backend == "hnsw"


def test_a_compaction_hands_on_what_another_process_has_built_since(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.db", np.random.default_rng(7).normal(size=(3000, 16))
    build = "import sys, synadb; synadb.VectorStore(sys.argv[1]).build_index('gravity_well')"
    with VectorStore(path, 16, sync_on_write=False, index_threshold=1000) as store:
        store.insert_batch([str(row) for row in range(len(rows))], rows)
        subprocess.run([sys.executable, "-c", build, str(path)], check=True)
        for row in range(0, len(rows), 3):
            store.delete(str(row))
        store.compact()
        for _ in range(2000):
            if store.has_index:
                break
            store.search_batch(rows[:64], 10)
        stats = store.index_stats()
        assert stats is not None
        assert stats["kind"] == "gravity_well"


def test_a_search_for_more_than_there_are_costs_no_saved_index(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.db", np.random.default_rng(8).normal(size=(3000, 16))
    with VectorStore(path, 16, sync_on_write=False) as store:
        store.insert_batch([str(row) for row in range(len(rows))], rows)
        store.build_index("gravity_well")
        for row in range(0, len(rows), 2):
            store.delete(str(row))
        assert len(store.search(rows[1], 2**63 - 1, target_recall=0.9)) == len(rows) / 2
        store.checkpoint()
    with VectorStore(path) as store:
        assert store.has_index
