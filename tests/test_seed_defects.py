"""Defects of the original package, as far as they concern what is built; one claim each."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 8


def random_rows(count: int, width: int = WIDTH, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_defect_05_second_writing_process_is_refused_with_the_pid(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "try:\n    synadb.SynaDB(sys.argv[1], access='exclusive')\n"
        "except synadb.DatabaseLockedError as error:\n    print(error)\n"
    )
    with SynaDB(path):
        command = [sys.executable, "-c", code, str(path)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert str(os.getpid()) in out


def test_defect_04_file_of_random_bytes_is_refused_unchanged(path: Path) -> None:
    noise = random_rows(200).tobytes()
    path.write_bytes(noise)
    with pytest.raises(synadb.NotADatabaseError):
        SynaDB(path)
    assert path.read_bytes() == noise


def test_defect_11_key_of_the_greatest_length_survives_reopening(path: Path) -> None:
    key = "k" * 65_535
    with SynaDB(path) as db:
        db.put_int(key, 1)
    with SynaDB(path) as db:
        assert db.get_int(key) == 1


def test_defect_13_batch_with_an_exception_leaves_nothing(db: SynaDB) -> None:
    db.put("kept", 1)

    def fail() -> None:
        with db.batch() as batch:
            batch.put("new", 2)
            batch.delete("kept")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert dict.fromkeys(db) == {"kept": None}


def test_defect_16_compact_keeps_mode_and_handle(path: Path) -> None:
    with SynaDB(path) as db:
        path.chmod(0o600)
        for value in range(50):
            db.put_int("n", value)
        db.compact()
        db.put_int("after", 1)
        assert (path.stat().st_mode & 0o777, db.get_int("n"), db.get_int("after")) == (0o600, 49, 1)


def test_defect_16_compact_keeps_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    with SynaDB(path) as db:
        db.put_int("n", 1)
    link.symlink_to(path)
    with SynaDB(link) as db:
        db.compact()
        assert db.get_int("n") == 1
    assert link.is_symlink()


def test_defect_21_history_is_empty_after_a_delete(db: SynaDB) -> None:
    db.append_many("h", [1.0, 2.0])
    db.delete("h")
    assert db.get_history_tensor("h").size == 0


def test_defect_21_history_begins_anew_after_a_delete(db: SynaDB) -> None:
    db.append_many("h", [1.0, 2.0])
    db.delete("h")
    db.put_float("h", 3.0)
    assert db.history("h") == [3.0]


def test_defect_21_deleting_nothing_writes_nothing_and_says_so(path: Path) -> None:
    with SynaDB(path) as db:
        db.put_int("other", 1)
        before = path.read_bytes()
        assert db.delete("absent") is False
        assert path.read_bytes() == before


@pytest.mark.parametrize("key", ["", "k" * 65_536])
def test_defect_23_put_with_a_bad_key_raises_and_stores_nothing(db: SynaDB, key: str) -> None:
    expected = synadb.KeyTooLongError if key else synadb.EmptyKeyError
    with pytest.raises(expected):
        db.put_text(key, "v")
    assert len(db) == 0


def test_defect_24_nul_is_kept_exactly(path: Path) -> None:
    keys = ["user", "user\0alice", "user\0bob"]
    with SynaDB(path) as db:
        for key in keys:
            db.put_text(key, f"hello\0{key}")
    with SynaDB(path) as db:
        assert {key: db.get_text(key) for key in db} == {key: f"hello\0{key}" for key in keys}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 + 5])
def test_defect_25_integer_beyond_64_bits_overflows(db: SynaDB, value: int) -> None:
    with pytest.raises(OverflowError):
        db.put_int("n", value)
    assert "n" not in db


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_defect_25_extreme_integers_are_exact(db: SynaDB, value: int) -> None:
    db.put_int("n", value)
    assert db.get_int("n") == value


def test_defect_26_closing_one_handle_leaves_the_other(path: Path) -> None:
    first, second = SynaDB(path), SynaDB(path)
    first.put_text("k", "v")
    first.close()
    assert second.get_text("k") == "v"
    second.close()


def test_defect_26_collecting_one_handle_leaves_the_other(path: Path) -> None:
    first, second = SynaDB(path), SynaDB(path)
    first.put_text("k", "v")
    del first
    gc.collect()
    assert second.keys() == ["k"]
    second.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.put("k", 1),
        lambda db: db.get("k"),
        lambda db: db.keys(),
        lambda db: db.delete("k"),
        lambda db: db.exists("k"),
        lambda db: "k" in db,
        lambda db: len(db),
        lambda db: list(db),
        lambda db: db.history("k"),
        lambda db: db.get_history_tensor("k"),
        lambda db: db.append_many("k", [1.0]),
        lambda db: db.put_many({"k": 1}),
        lambda db: db.get_many(["k"]),
        lambda db: db.batch(),
        lambda db: db.compact(),
        lambda db: db.checkpoint(),
        lambda db: db.sync(),
        lambda db: db.stats(),
        lambda db: db.verify(),
        lambda db: db.__enter__(),
    ],
)
def test_defect_26_closed_handle_raises_on_every_call(path: Path, call) -> None:  # type: ignore[no-untyped-def]
    db = SynaDB(path)
    db.close()
    with pytest.raises(synadb.DatabaseClosedError, match="Database is closed"):
        call(db)


def test_defect_29_empty_bytes_are_not_absent(db: SynaDB) -> None:
    db.put_bytes("b", b"")
    assert db.get_bytes("b") == b""


@pytest.mark.parametrize("wanted", ["float", "int", "text", "bytes"])
@pytest.mark.parametrize(
    ("stored", "value"), [("float", 1.5), ("int", 1), ("text", "t"), ("bytes", b"b")]
)
def test_defect_30_one_rule_for_every_typed_get(
    db: SynaDB, wanted: str, stored: str, value: object
) -> None:
    getattr(db, f"put_{stored}")("k", value)
    read = getattr(db, f"get_{wanted}")
    if wanted == stored:
        assert read("k") == value
    else:
        with pytest.raises(synadb.TypeMismatchError, match=f"{stored}.*{wanted}"):
            read("k")


@pytest.mark.parametrize("wanted", ["float", "int", "text", "bytes", "vector", "numpy"])
def test_defect_30_absent_key_is_none(db: SynaDB, wanted: str) -> None:
    assert getattr(db, f"get_{wanted}")("absent") is None


def test_defect_32_matrix_is_refused_by_put_floats_batch(db: SynaDB) -> None:
    with pytest.raises(ValueError, match="shape"):
        db.put_floats_batch("h", np.ones((3, 4)))
    assert "h" not in db


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.5, dtype=">f4"),
        np.zeros((0, 4), dtype=bool),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-01"], dtype="datetime64[D]"),
    ],
    ids=str,
)
def test_defect_32_equal_array_comes_back(db: SynaDB, array: np.ndarray) -> None:
    db.put_numpy("a", array)
    back = db.get_numpy("a")
    assert back is not None
    assert (back.dtype, back.shape, back.tolist()) == (array.dtype, array.shape, array.tolist())


def test_defect_34_relative_path_survives_chdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with SynaDB("relative.db") as db:
        monkeypatch.chdir(tmp_path / "other")
        db.put_int("n", 1)
        db.compact()
        assert (db.get_int("n"), db.path) == (1, str(tmp_path / "relative.db"))


def test_defect_35_keys_are_sorted(db: SynaDB) -> None:
    for key in ["b", "a", "ab", "\u00e9", "B"]:
        db.put_int(key, 1)
    assert db.keys() == sorted(["b", "a", "ab", "\u00e9", "B"])


def test_defect_35_mixed_history_is_typed(db: SynaDB) -> None:
    values = [1.5, 2, "three", b"4", None]
    for value in values:
        db.put("h", value)
    assert db.history("h") == values


def test_defect_35_history_tensor_skips_what_is_no_float(db: SynaDB) -> None:
    for value in [1.5, 2, "three", 2.5]:
        db.put("h", value)
    assert db.get_history_tensor("h").tolist() == [1.5, 2.5]


def test_defect_36_missing_folder_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.db"
    with pytest.raises(synadb.MissingDirectoryError, match="missing"):
        SynaDB(path)


def test_defect_36_directory_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(synadb.PathIsDirectoryError, match=tmp_path.name):
        SynaDB(tmp_path)


def test_defect_36_failed_constructor_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(synadb.SynaError):
        SynaDB(tmp_path)
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_defect_37_delete_removes_the_key_and_only_it(path: Path) -> None:
    rows = random_rows(20)
    names = [f"k{n}" for n in range(20)]
    with VectorStore(path, WIDTH) as store:
        store.insert_batch(names, rows)
        store.delete("k7")
        assert {hit.key for hit in store.search(rows[7], k=20)} == set(names) - {"k7"}
    with VectorStore(path, WIDTH) as store:
        assert {hit.key for hit in store.search(rows[7], k=20)} == set(names) - {"k7"}


def test_defect_38_get_is_bit_identical(store: VectorStore) -> None:
    row = random_rows(1)[0]
    row[0] = -0.0
    store.insert("k", row)
    got = store.get("k")
    assert got is not None
    assert got.tobytes() == row.tobytes()


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


def test_defect_48_search_gives_min_of_k_and_live(store: VectorStore) -> None:
    rows = random_rows(300)
    store.insert_batch([str(n) for n in range(300)], rows)
    for n in range(90):
        store.delete(str(n))
    assert [len(store.search(rows[0], k=k)) for k in (150, 210, 1000)] == [150, 210, 210]


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
    row = random_rows(1)[0]
    store.insert("k", row)
    assert store.search(row)[0].vector.dtype == np.float32
