"""What a build says: whether the file has the index, and the store is as good without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from synadb import CascadeIndex, GravityWellIndex, HybridVectorStore, MmapVectorStore, VectorStore

if TYPE_CHECKING:
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
