"""Defects 40 to 53 where FAISS and arrays answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from defect_files import WIDTH, random_rows

from synadb import InvalidVectorError, VectorStore
from synadb.faiss import FaissIndex

pytest.importorskip("faiss", reason="run `make setup`: requirements/core.txt has faiss-cpu")

METRICS = ["cosine", "euclidean", "dot_product"]


def test_defect_40_newest_vector_alone_counts_for_faiss(store: VectorStore) -> None:
    old, new = np.eye(WIDTH, dtype=np.float32)[:2]
    store.insert("k", old)
    near = store.to_faiss("Flat")
    store.insert("k", new)
    assert near.search(old, 5) == [("k", 1.0)]
    assert near.search(new, 5) == [("k", 0.0)]


def test_defect_41_batch_is_found_at_once_by_faiss(store: VectorStore) -> None:
    rows = random_rows(100)
    near = store.to_faiss("Flat")
    store.insert_batch([str(n) for n in range(100)], rows)
    keys, _ = near.search_batch(rows, 1)
    assert keys[:, 0].tolist() == [str(n) for n in range(100)]


def test_defect_42_saved_index_of_as_many_vectors_is_not_stale(path: Path) -> None:
    rows = random_rows(60)
    with VectorStore(path, WIDTH) as store:
        store.insert_batch([str(n) for n in range(50)], rows[:50])
        store.to_faiss("Flat").save()
        store.insert_batch([str(n) for n in range(10)], rows[50:])
    with VectorStore(path) as store:
        near = FaissIndex.load(store)
        keys, scores = near.search_batch(rows[50:], 1)
        assert keys[:, 0].tolist() == [str(n) for n in range(10)]
        assert np.abs(scores).max() < 1e-6


def test_defect_44_query_that_is_not_finite_is_refused_in_batches(store: VectorStore) -> None:
    rows = random_rows(100)
    store.insert_batch([str(n) for n in range(100)], rows)
    near = store.to_faiss("Flat")
    rows[99, 0] = np.inf
    with pytest.raises(InvalidVectorError):
        store.search_batch(rows, as_arrays=True)
    with pytest.raises(InvalidVectorError):
        near.search_batch(rows)


@pytest.mark.parametrize("metric", METRICS)
def test_defect_52_faiss_has_the_order_and_scores_of_the_exact_store(
    path: Path, metric: str
) -> None:
    rows, queries = random_rows(300), random_rows(20, seed=8)
    with VectorStore(path, WIDTH, metric=metric) as store:
        store.insert_batch([str(n) for n in range(300)], rows)
        keys, scores = store.to_faiss("Flat").search_batch(queries, 10)
        exact_keys, exact = store.search_batch(queries, 10, exact=True, as_arrays=True)
    assert keys.tolist() == exact_keys.tolist()
    np.testing.assert_allclose(scores, exact, rtol=1e-4, atol=1e-5)


def test_defect_52_nprobe_is_used(store: VectorStore) -> None:
    rows = random_rows(2000)
    store.insert_batch([str(n) for n in range(2000)], rows)
    near = store.to_faiss("IVF64,Flat")
    exact, _ = store.search_batch(rows[:100], 10, exact=True, as_arrays=True)
    few, _ = near.search_batch(rows[:100], 10, nprobe=1)
    all_cells, _ = near.search_batch(rows[:100], 10, nprobe=64)
    assert (all_cells == exact).mean() > 0.99
    assert (few == exact).mean() < 0.9


def test_defect_53_answers_cross_as_arrays(store: VectorStore) -> None:
    rows = random_rows(100)
    store.insert_batch([str(n) for n in range(100)], rows)
    keys, scores = store.search_batch(rows, 5, as_arrays=True)
    assert (keys.shape, scores.dtype, scores.shape) == ((100, 5), np.float32, (100, 5))
    assert keys[:, 0].tolist() == [str(n) for n in range(100)]
