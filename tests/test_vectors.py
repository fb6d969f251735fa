"""`VectorStore`: metrics, arguments, results, reopening, sharing a file with `SynaDB`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import SearchResult, SynaDB, VectorStore

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 8
METRICS = ["cosine", "euclidean", "dot_product"]


def random_rows(count: int, width: int = WIDTH, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def names(count: int) -> list[str]:
    return [f"k{n:04}" for n in range(count)]


def distances(metric: str, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.linalg.norm(rows - query, axis=1)
    if metric == "dot_product":
        return -(rows @ query)
    return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("width", [1, 3, 8, 17, 384])
def test_search_agrees_with_numpy(path: Path, metric: str, width: int) -> None:
    rows, query = random_rows(500, width), random_rows(1, width, seed=3)[0]
    exact = distances(metric, rows, query)
    with VectorStore(path, width, metric=metric, sync_on_write=False) as store:
        store.insert_batch(names(500), rows)
        found = store.search(query, k=10)
    scores = [hit.score for hit in found]
    np.testing.assert_allclose(scores, np.sort(exact)[:10], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        scores, [exact[int(hit.key[1:])] for hit in found], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("metric", METRICS)
def test_scores_ascend(path: Path, metric: str) -> None:
    rows = random_rows(200)
    with VectorStore(path, WIDTH, metric=metric) as store:
        store.insert_batch(names(200), rows)
        scores = [hit.score for hit in store.search(rows[0], k=200)]
    assert scores == sorted(scores)


def test_zero_vector_has_cosine_distance_one(store: VectorStore) -> None:
    store.insert("zero", np.zeros(WIDTH, dtype=np.float32))
    assert store.search(np.ones(WIDTH, dtype=np.float32))[0].score == 1.0


@pytest.mark.parametrize(
    ("given", "name"),
    [("COSINE", "cosine"), ("Euclidean", "euclidean"), ("DotProduct", "dot_product")],
)
def test_metric_ignores_case_and_spelling(path: Path, given: str, name: str) -> None:
    with VectorStore(path, WIDTH, metric=given) as store:
        assert (store.metric, store.metric_name) == (name, name)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_search_batch_agrees_with_search(store: VectorStore, count: int) -> None:
    store.insert_batch(names(300), random_rows(300))
    queries = random_rows(count, seed=3)
    assert store.search_batch(queries, k=5) == [store.search(query, k=5) for query in queries]


@pytest.mark.parametrize("k", [0, 1, 5, 10**6])
def test_empty_store_answers_nothing(store: VectorStore, k: int) -> None:
    assert store.search(np.ones(WIDTH), k=k) == []


def test_k_of_zero_answers_nothing(store: VectorStore) -> None:
    store.insert("a", np.ones(WIDTH))
    assert store.search(np.ones(WIDTH), k=0) == []


def test_negative_k_is_refused(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="k: it must be 0 or more, got -1"):
        store.search(np.ones(WIDTH), k=-1)


@pytest.mark.parametrize(
    "vector",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
        tuple(range(1, 9)),
        np.arange(1, 9),
        np.arange(1, 9, dtype=np.float64),
        np.arange(1, 9, dtype=">f4"),
        np.arange(1, 17, dtype=np.float32)[::2] / 2 + 0.5,
        np.arange(1, 9, dtype=np.float16).reshape(1, 8),
    ],
    ids=["list", "tuple", "int64", "float64", "big-endian", "strided", "row"],
)
def test_vector_is_whatever_numpy_converts(store: VectorStore, vector: Any) -> None:
    store.insert("k", vector)
    assert store["k"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize("vector", ["abcdefgh", [1j] * WIDTH, None, object()])
def test_what_is_no_vector_is_refused(store: VectorStore, vector: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        store.insert("k", vector)
    assert len(store) == 0


def test_wrong_length_has_the_originals_texts(store: VectorStore) -> None:
    wrong = np.ones(5, dtype=np.float32)
    with pytest.raises(ValueError, match=r"^Vector has 5 dimensions, expected 8$"):
        store.insert("k", wrong)
    with pytest.raises(ValueError, match=r"^Query has 5 dimensions, expected 8$"):
        store.search(wrong)
    with pytest.raises(ValueError, match=r"^Vectors have 5 dimensions, expected 8$"):
        store.insert_batch(["k"], wrong.reshape(1, 5))


def test_insert_batch_counts_new_keys(store: VectorStore) -> None:
    rows = random_rows(4)
    store.insert("k0001", rows[0])
    assert (store.insert_batch(names(4), rows), len(store)) == (3, 4)


def test_last_row_of_a_key_in_a_batch_wins(store: VectorStore) -> None:
    rows = random_rows(2)
    assert store.insert_batch(["a", "a"], rows) == 1
    assert store["a"].tobytes() == rows[1].tobytes()


def test_batch_of_one_row_may_be_flat(store: VectorStore) -> None:
    assert store.insert_batch(["a"], np.ones(WIDTH)) == 1


@pytest.mark.parametrize("vectors", [[], np.empty((0, WIDTH))])
def test_empty_batch_inserts_nothing(store: VectorStore, vectors: Any) -> None:
    assert store.insert_batch([], vectors) == 0


def test_count_of_keys_and_rows_must_agree(store: VectorStore) -> None:
    with pytest.raises(ValueError, match="3 keys were given for 2 vectors"):
        store.insert_batch(names(3), random_rows(2))
    assert len(store) == 0


def test_insert_batch_fast_is_found_at_once(store: VectorStore) -> None:
    rows = random_rows(10)
    store.insert_batch_fast(names(10), rows)
    assert store.search(rows[3], k=1)[0].key == "k0003"


def test_batch_of_several_commits_is_complete(path: Path) -> None:
    rows = random_rows(600, 32_768)
    with VectorStore(path, 32_768, sync_on_write=False) as store:
        assert store.insert_batch(names(600), rows) == 600
        assert store["k0599"].tobytes() == rows[599].tobytes()


def test_update_replaces_and_refuses_the_unknown(store: VectorStore) -> None:
    rows = random_rows(2)
    store.insert("a", rows[0])
    store.update("a", rows[1])
    assert store["a"].tobytes() == rows[1].tobytes()
    with pytest.raises(KeyError, match="absent"):
        store.update("absent", rows[0])


def test_delete_says_whether_there_was_one(store: VectorStore) -> None:
    store.insert("a", np.ones(WIDTH))
    assert (store.delete("a"), store.delete("a"), store.get("a")) == (True, False, None)


def test_container_protocol_follows_a_dict(store: VectorStore) -> None:
    store.insert_batch(names(5), random_rows(5))
    del store["k0002"]
    left = ["k0000", "k0001", "k0003", "k0004"]
    assert (sorted(store), sorted(store.keys()), len(store)) == (left, left, 4)
    assert ("k0001" in store, "k0002" in store) == (True, False)
    with pytest.raises(KeyError):
        store["k0002"]


def test_result_has_its_parts(store: VectorStore) -> None:
    store.insert("it's", np.ones(WIDTH))
    (hit,) = store.search(np.ones(WIDTH))
    assert (hit.key, type(hit.score), hit.vector.shape) == ("it's", float, (WIDTH,))
    assert repr(hit).startswith('SearchResult(key="it\'s", score=')


def test_results_compare_by_key_score_and_vector() -> None:
    one = SearchResult("a", 0.5, np.ones(2))
    assert one == SearchResult("a", 0.5, np.ones(2))
    assert one != SearchResult("a", 0.5, np.zeros(2))


def test_results_survive_pickling() -> None:
    import pickle

    result = SearchResult("a", 0.1, np.ones(2))
    assert pickle.loads(pickle.dumps(result)) == result


def test_result_outlives_the_store(path: Path) -> None:
    row = random_rows(1)[0]
    with VectorStore(path, WIDTH) as store:
        store.insert("a", row)
        (hit,) = store.search(row)
    assert hit.vector.tobytes() == row.tobytes()


def test_result_keeps_the_vector_that_was_scored(store: VectorStore) -> None:
    rows = random_rows(2)
    store.insert("a", rows[0])
    (hit,) = store.search(rows[0])
    store.insert("a", rows[1])
    assert hit.vector.tobytes() == rows[0].tobytes()


def test_results_keep_their_vectors_when_nothing_is_left_of_them(path: Path) -> None:
    rows = random_rows(300)
    with VectorStore(path, WIDTH, metric="euclidean") as store:
        store.insert_batch(names(300), rows)
        store.build_index("hnsw")
        found = [store.search(rows[7], k=5), *store.search_batch(rows[7:9], k=5)]
        for name in names(300)[:200]:
            store.delete(name)
        store.compact()
        store.insert_batch(names(300), random_rows(300, seed=8))
    path.write_bytes(b"")
    for hit in [hit for hits in found for hit in hits]:
        assert hit.vector.tobytes() == rows[int(hit.key[1:])].tobytes()
        hit.vector[0] = 5.0
        assert hit.vector[0] == 5.0, "it is the caller's own"


@pytest.mark.parametrize("metric", METRICS)
def test_path_alone_reopens_the_stored_configuration(path: Path, metric: str) -> None:
    rows = random_rows(20)
    with VectorStore(path, WIDTH, metric=metric) as store:
        store.insert_batch(names(20), rows)
        expected = store.search(rows[5], k=20)
    with VectorStore(path) as store:
        assert (store.dimensions, store.metric, store.search(rows[5], k=20)) == (
            WIDTH,
            metric,
            expected,
        )


def test_path_alone_of_a_new_file_names_the_missing_argument(path: Path) -> None:
    with pytest.raises(ValueError, match="dimensions"):
        VectorStore(path)
    with pytest.raises(ValueError, match="name"):
        VectorStore(path, WIDTH, name="n" * 65_536)
    assert not path.exists()


def test_regression_name_longer_than_a_key_is_refused_and_harms_nothing(path: Path) -> None:
    with SynaDB(path) as db:
        for name in ["", "n" * 65_536]:
            with pytest.raises(ValueError, match=r"^name: .* 1 to 65535 bytes"):
                VectorStore(db, WIDTH, name=name)
        db.put("k", 1)
    with SynaDB(path) as db:
        assert db["k"] == 1


def test_database_and_store_share_a_file(path: Path) -> None:
    row = random_rows(1)[0]
    with SynaDB(path) as db, VectorStore(path, WIDTH) as store:
        for n in range(50):
            db.put_text(f"text/{n}", "t")
            store.insert(f"k{n}", row)
        assert (len(db), len(store), len(store.search(row, k=100))) == (50, 50, 50)


def test_store_in_an_open_database_is_that_of_its_path(path: Path) -> None:
    row = random_rows(1)[0]
    with SynaDB(path) as db:
        with VectorStore(db, WIDTH) as store:
            store.insert("a", row)
        db.put_int("still open", 1)
    with VectorStore(path, WIDTH) as store:
        assert store["a"].tobytes() == row.tobytes()


def test_named_stores_in_a_database_are_apart(path: Path) -> None:
    with SynaDB(path) as db:
        first, second = VectorStore(db, 4, name="first"), VectorStore(db, WIDTH, name="second")
        first.insert("a", np.ones(4))
        second.insert("b", np.ones(WIDTH))
        assert (list(first), list(second)) == (["a"], ["b"])


def test_named_stores_of_a_path_are_apart(path: Path) -> None:
    with VectorStore(path, 4, name="first") as store:
        store.insert("a", np.ones(4))
    with VectorStore(path, WIDTH, name="second") as store:
        assert list(store) == []
    with VectorStore(path, name="first") as store:
        assert list(store) == ["a"]


def test_metric_alone_is_checked_against_the_file(path: Path) -> None:
    with VectorStore(path, WIDTH, metric="euclidean") as store:
        store.insert("a", np.ones(WIDTH))
    with VectorStore(path, metric="euclidean") as store:
        assert len(store) == 1
    with pytest.raises(synadb.ConfigMismatchError, match=r"euclidean.*cosine"):
        VectorStore(path, metric="cosine")


def test_reader_follows_the_writer_by_refresh(path: Path) -> None:
    with VectorStore(path, WIDTH) as writer:
        writer.insert("a", np.ones(WIDTH))
        with VectorStore(path, access="read_only") as reader:
            writer.insert("b", np.ones(WIDTH))
            reader.refresh()
            assert (list(reader), len(reader.search(np.ones(WIDTH)))) == (["a", "b"], 2)
            with pytest.raises(synadb.ReadOnlyError):
                reader.insert("c", np.ones(WIDTH))


def test_store_answers_as_before_after_a_compaction(path: Path) -> None:
    rows = random_rows(100)
    with SynaDB(path) as db, VectorStore(path, WIDTH) as store:
        store.insert_batch(names(100), rows)
        store.insert_batch(names(100), rows[::-1].copy())
        for name in names(50):
            store.delete(name)
        expected = store.search(rows[0], k=100)
        db.compact()
        assert store.search(rows[0], k=100) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.insert("k", np.ones(WIDTH)),
        lambda store: store.insert_batch(["k"], np.ones((1, WIDTH))),
        lambda store: store.search(np.ones(WIDTH)),
        lambda store: store.search_batch(np.ones((1, WIDTH))),
        lambda store: store.get("k"),
        lambda store: store.delete("k"),
        lambda store: "k" in store,
        lambda store: len(store),
        lambda store: store.keys(),
        lambda store: store.flush(),
        lambda store: store.__enter__(),
    ],
)
def test_closed_store_raises_on_every_call(path: Path, call: Any) -> None:
    store = VectorStore(path, WIDTH)
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        call(store)


@pytest.mark.parametrize("backend", ["auto", "AUTO", "flat", "hnsw"])
def test_backend_is_the_exact_scan(path: Path, backend: str) -> None:
    with VectorStore(path, WIDTH, backend=backend) as store:
        assert (store.backend, store.resolved_backend, store.has_index) == (
            backend.lower(),
            "flat",
            False,
        )


@pytest.mark.parametrize("options", [{"backend": "faiss"}, {"use_gpu": True}])
def test_what_is_not_built_says_so(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(synadb.UnsupportedError, match=r"to_faiss|comes with"):
        VectorStore(path, WIDTH, **options)
    assert not path.exists()


def test_unknown_backend_has_the_originals_text(path: Path) -> None:
    with pytest.raises(ValueError, match=r"Invalid backend 'annoy'\. Must be one of: auto"):
        VectorStore(path, WIDTH, backend="annoy")


def test_constants_are_the_originals() -> None:
    assert (VectorStore.COSINE, VectorStore.EUCLIDEAN, VectorStore.DOT_PRODUCT) == (0, 1, 2)


def test_readers_array_is_not_changed_by_a_later_write(store: VectorStore) -> None:
    rows = random_rows(2)
    store.insert("a", rows[0])
    got = store["a"]
    store.insert("a", rows[1])
    assert got.tobytes() == rows[0].tobytes()


def test_path_like_is_taken(path: Path) -> None:
    with VectorStore(os.fsencode(path), WIDTH) as store:
        assert store.path == str(path)


def test_regression_keys_of_a_damaged_store_raise(path: Path) -> None:
    with SynaDB(path) as db, VectorStore(db, WIDTH) as store:
        store.insert_batch(["first", "second"], random_rows(2))
        db.checkpoint()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"first", b"worst"))
    with VectorStore(path, WIDTH) as store:
        with pytest.raises(synadb.CorruptionError, match="offset"):
            store.keys()
        with pytest.raises(synadb.CorruptionError, match='"first"'):
            "first" in store  # noqa: B015
