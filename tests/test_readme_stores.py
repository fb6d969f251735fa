"""The Python blocks on the stores of the original README, with fewer vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from index_waits import search_until_indexed

from synadb import CascadeIndex, VectorStore

if TYPE_CHECKING:
    from pathlib import Path

MMAP_BLOCK = """
from synadb import MmapVectorStore
import numpy as np

# Create store with pre-allocated capacity

store = MmapVectorStore("vectors.mmap", dimensions=768, initial_capacity=100000)

# Batch insert - 7x faster than VectorStore

keys = [f"doc_{i}" for i in range(10000)]
vectors = np.random.randn(10000, 768).astype(np.float32)
store.insert_batch(keys, vectors)  # 7x faster than VectorStore

# Build HNSW index

store.build_index()

# Search

results = store.search(query_embedding, k=10)

# Checkpoint to persist (not per-write like VectorStore)

store.checkpoint()
store.close()
"""

GRAVITY_BLOCK = """
from synadb import GravityWellIndex
import numpy as np

# Create index

gwi = GravityWellIndex("vectors.gwi", dimensions=768)

# Initialize with sample vectors (required)

sample = np.random.randn(1000, 768).astype(np.float32)
gwi.initialize(sample)

# Insert vectors - O(N) total build time

keys = [f"doc_{i}" for i in range(50000)]
vectors = np.random.randn(50000, 768).astype(np.float32)
gwi.insert_batch(keys, vectors)

# Search with tunable recall (nprobe=50 gives 98% recall)

results = gwi.search(query_embedding, k=10, nprobe=50)
"""

CASCADE_BLOCK = """
from synadb import CascadeIndex
import numpy as np

# Create with preset configuration

index = CascadeIndex("vectors.cascade", dimensions=768, preset="large")

# Or custom configuration

index = CascadeIndex("vectors.cascade", dimensions=768,
                     num_hyperplanes=16, bucket_capacity=128, nprobe=8)

# Insert vectors - no initialization required

keys = [f"doc_{i}" for i in range(50000)]
vectors = np.random.randn(50000, 768).astype(np.float32)
index.insert_batch(keys, vectors)

# Search

results = index.search(query_embedding, k=10)

# Save and close

index.save()
index.close()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def query() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(768).astype(np.float32)


def test_mmap_block_leaves_a_file_that_any_store_opens_with_its_index() -> None:
    names: dict[str, Any] = {"query_embedding": query()}
    exec(MMAP_BLOCK.replace("10000)", "2000)").replace("10000, ", "2000, "), names)
    assert len(names["results"]) == 10
    with VectorStore("vectors.mmap") as store:
        assert (len(store), store.dimensions, store.resolved_backend) == (2000, 768, "hnsw")
        assert store["doc_7"].tobytes() == names["vectors"][7].tobytes()


def test_gravity_block_has_its_index_built_by_searches() -> None:
    names: dict[str, Any] = {"query_embedding": query()}
    exec(GRAVITY_BLOCK.replace("50000", "10000"), names)
    gwi = names["gwi"]
    assert len(names["results"]) == 10
    search_until_indexed(gwi, np.stack([query() for _ in range(32)]), 10_000)
    assert gwi.index_stats()["kind"] == "gravity_well"
    assert gwi.search(names["vectors"][7], k=1)[0].key == "doc_7"
    gwi.close()


def test_cascade_block_has_the_custom_cascade_built_by_searches() -> None:
    names: dict[str, Any] = {"query_embedding": query()}
    exec(CASCADE_BLOCK.replace("50000", "10000"), names)
    assert len(names["results"]) == 10
    with CascadeIndex("vectors.cascade", num_hyperplanes=16, bucket_capacity=128) as index:
        assert (len(index), index.dimensions, index.has_index) == (10_000, 768, False)
        search_until_indexed(index, np.stack([query() for _ in range(32)]), 10_000)
        assert index.index_stats()["kind"] == "cascade"
        assert index.search(names["vectors"][7], k=1)[0].key == "doc_7"
    with CascadeIndex("vectors.cascade") as index:
        assert (index.config.num_hyperplanes, index.config.bucket_capacity) == (16, 128)
