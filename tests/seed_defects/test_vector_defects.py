"""Defects 37 to 53: what `VectorStore` takes, keeps, finds and raises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from defect_files import WIDTH, random_rows

import synadb
from synadb import SynaDB, VectorStore


def test_defect_37_delete_removes_the_key_and_only_it(path: Path) -> None:
    rows = random_rows(20)
    names = [f"k{n}" for n in range(20)]
    with VectorStore(path, WIDTH) as store:
        store.insert_batch(names, rows)
        store.delete("k7")
        assert {hit.key for hit in store.search(rows[7], k=20)} == set(names) - {"k7"}
    with VectorStore(path, WIDTH) as store:
        assert {hit.key for hit in store.search(rows[7], k=20)} == set(names) - {"k7"}


def test_defect_37_delete_with_a_database_open_leaves_the_rest_findable(path: Path) -> None:
    rows = random_rows(40)
    names = [f"k{n}" for n in range(40)]
    with SynaDB(path) as db, VectorStore(path, WIDTH) as store:
        store.insert_batch(names[:20], rows[:20])
        assert (store.delete("k7"), store.delete("k7"), "k7" in store) == (True, False, False)
        store.insert_batch(names[20:], rows[20:])
        found = {hit.key for hit in store.search(rows[7], k=50)}
        db.compact()
        assert found == {hit.key for hit in store.search(rows[7], k=50)} == set(names) - {"k7"}


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot_product"])
def test_defect_38_get_is_bit_identical(path: Path, metric: str) -> None:
    row = random_rows(1)[0]
    row[0], row[1] = -0.0, 1e-42
    with SynaDB(path) as db, VectorStore(path, WIDTH, metric=metric) as store:
        store.insert("k", row)
        assert store["k"].tobytes() == row.tobytes()
        db.compact()
        assert store["k"].tobytes() == row.tobytes()
    with VectorStore(path) as store:
        assert (store["k"].dtype, store["k"].tobytes()) == (np.float32, row.tobytes())


def test_defect_39_len_is_the_number_of_live_keys(path: Path) -> None:
    rows = random_rows(3)
    with VectorStore(path, WIDTH) as store:
        store.insert("a", rows[0])
        store.insert("a", rows[1])
        store.insert("b", rows[2])
        store.delete("b")
        assert len(store) == 1
    with VectorStore(path, WIDTH) as store:
        assert len(store) == 1


def test_defect_40_newest_vector_alone_counts(store: VectorStore) -> None:
    old, new = np.eye(WIDTH, dtype=np.float32)[:2]
    store.insert("k", old)
    store.insert("k", new)
    (hit,) = store.search(old, k=5)
    assert (hit.score, hit.vector.tolist()) == (1.0, new.tolist())


def test_defect_41_batch_is_found_at_once(store: VectorStore) -> None:
    rows = random_rows(100)
    store.insert_batch([str(n) for n in range(100)], rows)
    assert [hits[0].key for hits in store.search_batch(rows, k=1)] == [str(n) for n in range(100)]


@pytest.mark.parametrize(
    ("dimensions", "metric", "both"),
    [(WIDTH, "euclidean", r"(?i)cosine.*euclidean"), (16, "cosine", r"8.*16")],
)
def test_defect_43_mismatch_names_both(path: Path, dimensions: int, metric: str, both: str) -> None:
    with VectorStore(path, WIDTH) as store:
        store.insert("k", random_rows(1)[0])
    with pytest.raises(synadb.ConfigMismatchError, match=both):
        VectorStore(path, dimensions, metric=metric)


def test_defect_43_mismatch_is_found_before_the_first_answer(path: Path) -> None:
    with VectorStore(path, WIDTH) as first, VectorStore(path, 16, metric="euclidean") as second:
        first.insert("k", random_rows(1)[0])
        with pytest.raises(synadb.ConfigMismatchError, match=r"(?i)8.*16"):
            second.insert("k", random_rows(1, 16)[0])
        assert len(first) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_defect_44_vector_that_is_not_finite_is_refused(store: VectorStore, bad: float) -> None:
    row = random_rows(1)[0]
    row[3] = bad
    with pytest.raises(synadb.InvalidVectorError):
        store.insert("k", row)
    assert len(store) == 0


def test_defect_44_batch_with_one_bad_row_stores_nothing(store: VectorStore) -> None:
    rows = random_rows(100)
    rows[99, 0] = np.nan
    with pytest.raises(synadb.InvalidVectorError):
        store.insert_batch([str(n) for n in range(100)], rows)
    assert len(store) == 0


def test_defect_44_query_that_is_not_finite_is_refused(store: VectorStore) -> None:
    store.insert("k", random_rows(1)[0])
    with pytest.raises(synadb.InvalidVectorError):
        store.search(np.full(WIDTH, np.nan, dtype=np.float32))


def test_defect_46_second_store_on_a_path_shares_and_outlives_the_first(path: Path) -> None:
    row = random_rows(1)[0]
    first, second = VectorStore(path, WIDTH), VectorStore(path, WIDTH)
    first.insert("k", row)
    first.close()
    assert [hit.key for hit in second.search(row)] == ["k"]
    second.close()


def test_defect_46_second_store_with_another_metric_is_refused(path: Path) -> None:
    rows = random_rows(20)
    with VectorStore(path, WIDTH, metric="euclidean") as first:
        first.insert_batch([str(n) for n in range(20)], rows)
        before = first.search(rows[3], k=20)
        with pytest.raises(synadb.ConfigMismatchError, match=r"(?i)euclidean.*cosine"):
            VectorStore(path, WIDTH, metric="cosine")
        assert (first.metric, first.search(rows[3], k=20)) == ("euclidean", before)


def test_defect_48_search_gives_min_of_k_and_live(store: VectorStore) -> None:
    rows = random_rows(300)
    store.insert_batch([str(n) for n in range(300)], rows)
    for n in range(90):
        store.delete(str(n))
    assert [len(store.search(rows[0], k=k)) for k in (150, 210, 1000)] == [150, 210, 210]
    for k, found in [(150, 150), (210, 210), (1000, 210)]:
        answers = store.search_batch(rows[:70], k=k)
        assert [len({hit.key for hit in hits}) for hits in answers] == [found] * 70


@pytest.mark.parametrize("scale", [1e-18, 1e-8, 1.0, 1e18])
def test_defect_49_cosine_order_does_not_depend_on_scale(path: Path, scale: float) -> None:
    rows = random_rows(50)
    query = random_rows(1, seed=3)[0]
    exact = 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    with VectorStore(path, WIDTH) as store:
        store.insert_batch([str(n) for n in range(50)], rows * np.float32(scale))
        got = [hit.key for hit in store.search(query * np.float32(scale), k=5)]
    assert got == [str(n) for n in np.argsort(exact)[:5]]


@pytest.mark.parametrize("metric", ["l2", "manhattan", ""])
def test_defect_51_unknown_metric_is_refused(path: Path, metric: str) -> None:
    with pytest.raises(ValueError, match="metric"):
        VectorStore(path, WIDTH, metric=metric)
    assert not path.exists()


def test_defect_51_matrix_is_no_vector(path: Path) -> None:
    with VectorStore(path, 64) as store, pytest.raises(ValueError, match="Vector has shape"):
        store.insert("k", np.ones((8, 8), dtype=np.float32))


def test_defect_51_empty_key_is_refused(store: VectorStore) -> None:
    with pytest.raises(synadb.EmptyKeyError):
        store.insert("", random_rows(1)[0])


def test_defect_51_key_with_nul_is_kept(store: VectorStore) -> None:
    rows = random_rows(2)
    store.insert_batch(["a\0b", "a"], rows)
    assert store.search(rows[0], k=1)[0].key == "a\0b"


@pytest.mark.parametrize("length", [1, 2])
def test_defect_51_key_with_nul_is_not_cut(path: Path, length: int) -> None:
    keys = ["a", "a\0", "a\0b", "\0"]
    with VectorStore(path, WIDTH) as store:
        store.insert_batch(keys[:length], random_rows(length))
        store.insert_batch(keys[length:], random_rows(4 - length))
    with VectorStore(path, WIDTH) as store:
        assert sorted(store) == sorted(keys)


@pytest.mark.parametrize("width", [1, 6, 63, 8193, 65_535])
def test_defect_51_dimensions_from_1_to_65535(path: Path, width: int) -> None:
    row = random_rows(1, width)[0]
    with VectorStore(path, width) as store:
        store.insert("k", row)
    with VectorStore(path, width) as store:
        assert store.search(row)[0].vector.tobytes() == row.tobytes()


@pytest.mark.parametrize("width", [0, -1, 65_536])
def test_defect_51_other_dimensions_are_refused(path: Path, width: int) -> None:
    with pytest.raises(ValueError, match="Dimensions must be between 1 and 65535"):
        VectorStore(path, width)


def test_defect_53_results_are_arrays(store: VectorStore) -> None:
    rows = random_rows(5)
    store.insert_batch([str(n) for n in range(5)], rows)
    for hit in store.search(rows[0], k=5):
        assert type(hit.score) is float
        assert (hit.vector.dtype, hit.vector.shape) == (np.float32, (WIDTH,))
        assert hit.vector.tobytes() == rows[int(hit.key)].tobytes()


def test_defect_53_vectors_lie_side_by_side_in_the_file(path: Path) -> None:
    rows = random_rows(5000, 16)
    with VectorStore(path, 16) as store:
        store.insert_batch([str(n) for n in range(5000)], rows)
        assert path.read_bytes().count(rows.tobytes()) == 1


def test_defect_53_settings_of_a_graph_are_used(path: Path) -> None:
    rows = random_rows(6_100, 32)
    queries = rows[6_000:]
    found = {}
    with VectorStore(path, 32, metric="euclidean") as store:
        store.insert_batch([str(n) for n in range(6_000)], rows[:6_000])
        exact = [{hit.key for hit in hits} for hits in store.search_batch(queries, 10, exact=True)]
        for m_max in (32, 96):
            store.build_index("hnsw", m_max=m_max)
            for ef_search in (10, 60):
                answers = store.search_batch(queries, 10, ef_search=ef_search)
                pairs = zip(exact, answers, strict=True)
                shared = sum(len(keys & {hit.key for hit in hits}) for keys, hits in pairs)
                found[m_max, ef_search] = shared / 1000
    assert found[32, 10] + 0.1 < min(found[96, 10], found[32, 60]), found
