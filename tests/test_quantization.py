"""Indexes without codes, and with the smallest: `build_index(quantization=)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    SynaDB,
    VectorStore,
)
from synadb.errors import InvalidArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
METRICS = ("cosine", "euclidean", "dot_product")
KINDS = ("gravity_well", "hnsw", "cascade")


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


def size(store: VectorStore) -> int:
    """Bytes of the index."""
    stats = store.index_stats()
    assert stats is not None
    return stats["bytes"]


def recall(store: VectorStore, queries: NDArray[np.float32], **how: Any) -> float:
    """Share of the ten nearest that the index finds."""
    exact = [{hit.key for hit in hits} for hits in store.search_batch(queries, 10, exact=True)]
    near = [{hit.key for hit in hits} for hits in store.search_batch(queries, 10, **how)]
    return sum(len(a & b) for a, b in zip(exact, near, strict=True)) / sum(map(len, exact))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_index_without_codes_holds_the_vectors_and_finds_them(
    path: Path, rows: NDArray[np.float32], kind: str, metric: str
) -> None:
    raw = rows[100:].nbytes
    with filled(path, rows[100:], metric=metric) as store:
        store.build_index(kind)
        codes = size(store)
        store.build_index(kind, quantization="auto")
        assert size(store) == codes
        store.build_index(kind, quantization=None)
        full = size(store)
        assert full >= raw
        assert full != codes
        # Short queues, so that graphs are walked.
        short = {"gravity_well": {"nprobe": 64}, "hnsw": {"ef_search": 40}}
        asked = short.get(kind, {"num_probes": 40, "ef_search": 40})
        found = recall(store, rows[:100], **asked)
        assert found >= 0.95
        assert recall(store, rows[:100], target_recall=0.95) >= 0.9
    with VectorStore(path) as store:
        assert size(store) == full
        assert recall(store, rows[:100], **asked) == found
        store.insert_batch([f"new {n}" for n in range(100)], rows[:100])
        store.delete("17")
        hits = store.search_batch(rows[:100], 1, **asked)
        assert [hit[0].key for hit in hits] == [f"new {n}" for n in range(100)]
        assert "17" not in {hit.key for hit in store.search(rows[117], 50, **asked)}


def test_all_cells_without_codes_are_exact(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[100:]) as store:
        store.build_index("gravity_well", quantization=None, cells=32)
        for query in rows[:20]:
            found, exact = store.search(query, 20, nprobe=32), store.search(query, 20, exact=True)
            assert [(hit.key, hit.score) for hit in found] == [(h.key, h.score) for h in exact]


def test_one_bit_takes_the_least(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[100:]) as store:
        sizes = []
        for quantization in ("1bit", "auto", None):
            store.build_index("gravity_well", quantization=quantization)  # type: ignore[arg-type]
            sizes.append(size(store))
            assert recall(store, rows[:100], nprobe=64, candidates=200) >= 0.95
        assert sizes == sorted(sizes)
        assert sizes[1] > 1.5 * sizes[0]


def test_flat_without_codes_is_a_scan_and_stays_one(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows, index_threshold=100) as store:
        store.build_index("flat")
        assert store.has_index
        store.build_index("flat", quantization=None)
        assert not store.has_index
        assert recall(store, rows[:200]) == 1.0
        for _ in range(100):
            store.search_batch(rows[:50], 3)
        with pytest.raises(InvalidArgumentError, match="target_recall: an index has one"):
            store.build_index("flat", quantization=None, target_recall=0.9)
        store.build_index("none", quantization=None)
    # Closing waits for builds.
    with VectorStore(path, index_threshold=100) as store:
        assert not store.has_index


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("hnsw", "2bit", "quantization: '2bit' is unknown; it must be one of: auto, 1bit, None"),
        ("hnsw", "1bit", "quantization: an index of kind 'hnsw' has no codes of one bit alone"),
        ("cascade", "1bit", "quantization: an index of kind 'cascade' has no codes of one bit"),
        ("flat", "1bit", "quantization: an index of kind 'flat' has no codes of one bit alone"),
        ("none", "1bit", "quantization: an index of kind 'none' has no codes"),
    ],
)
def test_quantization_is_refused_by_name(
    path: Path, rows: NDArray[np.float32], kind: str, bad: Any, message: str
) -> None:
    with filled(path, rows[:200]) as store:
        store.build_index("gravity_well")
        before = store.index_stats()
        with pytest.raises(InvalidArgumentError, match=message):
            store.build_index(kind, quantization=bad)
        with pytest.raises(TypeError, match="quantization"):
            store.build_index("gravity_well", quantization=7)  # type: ignore[arg-type]
        assert store.index_stats() == before


def test_filters_a_compaction_and_a_coded_tail_are_minded(
    path: Path, rows: NDArray[np.float32]
) -> None:
    for kind, asked in (("gravity_well", {"nprobe": 64}), ("hnsw", {"ef_search": 40})):
        with filled(path, rows[:1500], index_threshold=200) as store:
            store.build_index(kind, quantization=None)
            allowed = [str(n) for n in range(0, 1500, 7)]
            for query in rows[1500:1520]:
                found = store.search(query, 10, filter=allowed, **asked)
                exact = store.search(query, 10, filter=allowed, exact=True)
                assert [hit.key for hit in found] == [hit.key for hit in exact]
            full = size(store)
            # So many more that they join the index, which stays as it is.
            store.insert_batch([str(n) for n in range(1500, 2500)], rows[1500:])
            for _ in range(300):
                store.search_batch(rows[:50], 3)
        with VectorStore(path, index_threshold=200) as store:
            stats = store.index_stats()
            assert stats is not None
            assert stats["bytes"] / stats["rows"] > full / 1500 * 0.9
            assert recall(store, rows[::50], **asked) >= 0.95
        with SynaDB(path) as database:
            database.compact()
        with VectorStore(path, index_threshold=200) as store:
            assert not store.has_index
            for _ in range(300):
                store.search_batch(rows[:50], 3)
        with VectorStore(path, index_threshold=200) as store:
            stats = store.index_stats()
            assert stats is not None
            assert (stats["kind"], stats["rows"]) == (kind, 2500)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


def test_cascade_that_is_built_again_is_as_it_was(path: Path, rows: NDArray[np.float32]) -> None:
    with CascadeIndex(path, rows.shape[1]) as store:
        store.insert_batch([str(n) for n in range(len(rows))], rows)
        store.build_index()
        codes = size(store)
        store.build_index(quantization=None)
        full = size(store)
    with CascadeIndex(path) as store:
        store.build_index()
        assert size(store) == full
        assert store.config == CascadeIndex(path).config
        store.build_index(quantization="auto")
        assert size(store) == codes
    with CascadeIndex(path, preset="small") as store:
        store.build_index(quantization=None, seed=7)
        full = size(store)
        store.build_index()
        assert size(store) == full
        # What is `None` was not given.
        store.build_index(ef_search=33, seed=7)
        store.build_index(ef_search=None, seed=None)
        assert store.config.ef_search == 100
        assert size(store) == full
        built = store._cascade()
        assert built is not None
        assert built["seed"] == 7


def test_hybrid_store_takes_one_bit_where_it_is_meant(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    with HybridVectorStore(tmp_path / "hot.db", tmp_path / "cold.db", rows.shape[1]) as store:
        store.ingest_batch([str(n) for n in range(1500)], rows[:1500])
        with pytest.raises(InvalidArgumentError, match="quantization"):
            store.build_index(quantization="1bit")
        assert store.index_stats()["hot"] is None
        store.build_index(source="hot", quantization="1bit")
        assert store.search(rows[7], 1)[0].key == "7"


def test_every_store_builds_without_codes(tmp_path: Path, rows: NDArray[np.float32]) -> None:
    keys, width = [str(n) for n in range(len(rows))], rows.shape[1]
    for kind in (MmapVectorStore, GravityWellIndex, CascadeIndex):
        with kind(tmp_path / f"{kind.__name__}.db", width) as store:
            store.insert_batch(keys, rows)
            store.build_index()
            codes = size(store)
            store.build_index(quantization=None)
            assert size(store) >= rows.nbytes
            assert size(store) != codes
            assert store.search(rows[7], 1)[0].key == "7"
    with HybridVectorStore(tmp_path / "hot.db", tmp_path / "cold.db", width) as hybrid:
        hybrid.ingest_batch(keys[:1500], rows[:1500])
        hybrid.promote_to_cold()
        hybrid.ingest_batch(keys[1500:], rows[1500:])
        hybrid.build_index(quantization=None)
        for number, source in ((7, "cold"), (1507, "hot")):
            hit = hybrid.search(rows[number], 1)[0]
            assert (hit.key, hit.source) == (str(number), source)
        for stats in hybrid.index_stats().values():
            assert stats["bytes"] >= stats["rows"] * width * 4
