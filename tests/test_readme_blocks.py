"""The Python blocks on `VectorStore` and metrics of the original README, run as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import synadb

if TYPE_CHECKING:
    from pathlib import Path

STORE_BLOCK = """
from synadb import VectorStore
import numpy as np

# Create store with 768 dimensions (BERT-sized)

store = VectorStore("vectors.db", dimensions=768)

# Insert embeddings

embedding1 = np.random.randn(768).astype(np.float32)
embedding2 = np.random.randn(768).astype(np.float32)
store.insert("doc1", embedding1)
store.insert("doc2", embedding2)

# Search for similar vectors

query_embedding = np.random.randn(768).astype(np.float32)
results = store.search(query_embedding, k=5)
for r in results:
    print(f"{r.key}: {r.score:.4f}")
"""

METRICS_BLOCK = """
# Use euclidean distance

store = VectorStore("vectors.db", dimensions=768, metric="euclidean")

# Use dot product

store = VectorStore("vectors.db", dimensions=768, metric="dot_product")
"""

MANY_BLOCK = """
from synadb import VectorStore
from synadb import VectorStore
import numpy as np

# HNSW is automatically enabled when vector count exceeds threshold

store = VectorStore("vectors.db", dimensions=768)

# Insert many vectors - HNSW index builds automatically

for i in range(100000):
    embedding = np.random.randn(768).astype(np.float32)
    store.insert(f"doc{i}", embedding)

# Search is now O(log N) instead of O(N)

results = store.search(query_embedding, k=10)  # <10ms for 1M vectors
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_vector_store_block_prints_both_documents(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(STORE_BLOCK, names)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split(":")[0] for line in lines) == ["doc1", "doc2"]


@pytest.mark.usefixtures("folder")
def test_metrics_block_opens_one_file_with_several_metrics() -> None:
    names: dict[str, Any] = {"VectorStore": synadb.VectorStore}
    exec(METRICS_BLOCK, names)
    assert names["store"].metric == "dot_product"


@pytest.mark.usefixtures("folder")
def test_metrics_block_after_rows_names_both_metrics() -> None:
    names: dict[str, Any] = {}
    exec(STORE_BLOCK, names)
    with pytest.raises(synadb.ConfigMismatchError, match=r"(?i)cosine.*euclidean"):
        exec(METRICS_BLOCK, names)


@pytest.mark.usefixtures("folder")
def test_many_vectors_block_finds_ten() -> None:
    import numpy as np

    names: dict[str, Any] = {"query_embedding": np.ones(768, dtype=np.float32)}
    fewer = MANY_BLOCK.replace("range(100000)", "range(300)")
    unsynced = fewer.replace("dimensions=768", "dimensions=768, sync_on_write=False")
    exec(unsynced, names)
    assert len(names["results"]) == 10
