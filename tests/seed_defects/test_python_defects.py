"""Defects 11 and 23 to 36: what `SynaDB` takes, gives back and raises."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defect_files import run_python

import synadb
from synadb import SynaDB

PUTS: dict[str, Callable[[SynaDB, str], object]] = {
    "put": lambda db, key: db.put(key, 1),
    "append": lambda db, key: db.append(key, 1),
    "put_float": lambda db, key: db.put_float(key, 1.0),
    "put_int": lambda db, key: db.put_int(key, 1),
    "put_text": lambda db, key: db.put_text(key, "v"),
    "put_bytes": lambda db, key: db.put_bytes(key, b"v"),
    "put_null": lambda db, key: db.put_null(key),
    "put_vector": lambda db, key: db.put_vector(key, [1.0]),
    "put_numpy": lambda db, key: db.put_numpy(key, [1.0]),
    "put_floats_batch": lambda db, key: db.put_floats_batch(key, [1.0]),
    "append_many": lambda db, key: db.append_many(key, [1.0]),
    "put_many": lambda db, key: db.put_many({key: 1}),
    "setitem": lambda db, key: db.__setitem__(key, 1),
    "batch": lambda db, key: db.batch().put(key, 1),
}


LONG_KEYS = {
    "below": "k" * 65_534,
    "at": "k" * 65_535,
    "at, of three bytes each": "\u20ac" * 21_845,
    "above": "k" * 65_536,
    "above, of three bytes each": "\u20ac" * 21_846,
}


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("length", LONG_KEYS)
def test_defect_11_key_that_is_accepted_is_readable(path: Path, put: str, length: str) -> None:
    key = LONG_KEYS[length]
    is_refused = length.startswith("above")
    with SynaDB(path) as db:
        if is_refused:
            with pytest.raises(synadb.KeyTooLongError, match=rf"{len(key.encode())}.*65535"):
                PUTS[put](db, key)
        else:
            PUTS[put](db, key)
        expected = [] if is_refused or put == "batch" else [key]
        assert db.keys() == expected
    with SynaDB(path) as db:
        assert db.keys() == expected
        assert [len(db.history(name)) for name in db] == [1] * len(expected)
        assert db.verify()["ok"]


@pytest.mark.parametrize("length", LONG_KEYS)
def test_defect_11_vector_key_that_is_accepted_is_found(path: Path, length: str) -> None:
    key = LONG_KEYS[length]
    with synadb.VectorStore(path, 2) as store:
        if length.startswith("above"):
            with pytest.raises(synadb.KeyTooLongError):
                store.insert(key, [1.0, 2.0])
        else:
            store.insert(key, [1.0, 2.0])
        expected = [] if length.startswith("above") else [key]
        assert [hit.key for hit in store.search([1.0, 2.0])] == expected
    with synadb.VectorStore(path, 2) as store:
        assert ([hit.key for hit in store.search([1.0, 2.0])], store.keys()) == (expected, expected)


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize(
    ("key", "error"), [("", synadb.EmptyKeyError), ("k" * 65_536, synadb.KeyTooLongError)]
)
def test_defect_23_put_with_a_bad_key_raises_and_stores_nothing(
    db: SynaDB, path: Path, put: str, key: str, error: type[Exception]
) -> None:
    before = path.read_bytes()
    with pytest.raises(error):
        PUTS[put](db, key)
    assert (len(db), path.read_bytes()) == (0, before)


@pytest.mark.parametrize("sync_on_write", [False, True])
def test_defect_23_put_on_a_full_disk_raises_and_leaves_the_handle_good(
    path: Path, sync_on_write: bool
) -> None:
    code = (
        "import resource, sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], sync_on_write=sys.argv[2] == 'True') as db:\n"
        "    db.put('before', 1)\n"
        "    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))\n"
        "    for put in (db.put, db.put_bytes):\n"
        "        for size in (2 << 20, 5 << 20):\n"
        "            try:\n"
        "                put('large', bytes(size))\n"
        "            except synadb.DiskFullError as error:\n"
        "                print(error.errno)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "    assert db.keys() == ['before']\n"
        "    db.put('after', bytes(2 << 20))\n"
    )
    assert run_python(code, path, sync_on_write).split() == ["28"] * 4
    with SynaDB(path) as db:
        assert (db.keys(), db["after"], db.verify()["ok"]) == (
            ["after", "before"],
            bytes(2 << 20),
            True,
        )


def test_defect_24_nul_is_kept_exactly(path: Path) -> None:
    keys = ["user", "user\0", "user\0alice", "user\0bob", "\0"]
    with SynaDB(path) as db:
        for key in keys:
            db.put_text(key, f"hello\0{key}")
    with SynaDB(path) as db:
        assert {key: db.get_text(key) for key in db} == {key: f"hello\0{key}" for key in keys}


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 + 5])
@pytest.mark.parametrize("how", ["put_int", "put", "append", "__setitem__", "put_many", "batch"])
def test_defect_25_integer_beyond_64_bits_overflows_and_nothing_is_written(
    db: SynaDB, path: Path, how: str, value: int
) -> None:
    before = path.read_bytes()
    calls: dict[str, Callable[[], object]] = {
        "put_many": lambda: db.put_many({"good": 1, "n": value}),
        "batch": lambda: db.batch().put_int("n", value),
    }
    call = calls.get(how, lambda: getattr(db, how)("n", value))
    with pytest.raises(OverflowError, match="integer from"):
        call()
    assert (len(db), path.read_bytes()) == (0, before)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_defect_25_extreme_integers_are_exact(db: SynaDB, value: int) -> None:
    db.put_int("n", value)
    assert db.get_int("n") == value


def test_defect_26_closing_one_handle_leaves_the_other(path: Path) -> None:
    first, second = SynaDB(path), SynaDB(path)
    first.put_text("k", "v")
    first.close()
    assert (second.keys(), second.get_text("k"), second.history("k")) == (["k"], "v", ["v"])
    second.put_text("k", "w")
    second.close()
    with SynaDB(path) as db:
        assert db.history("k") == ["v", "w"]


def test_defect_26_collecting_one_handle_leaves_the_other(path: Path) -> None:
    first, second = SynaDB(path), SynaDB(path)
    first.put_text("k", "v")
    del first
    gc.collect()
    assert second.keys() == ["k"]
    second.close()


CALLS: dict[str, Callable[[SynaDB], object]] = {
    **{name: lambda db, put=put: put(db, "k") for name, put in PUTS.items()},
    "get": lambda db: db.get("k"),
    "getitem": lambda db: db["k"],
    "get_float": lambda db: db.get_float("k"),
    "get_int": lambda db: db.get_int("k"),
    "get_text": lambda db: db.get_text("k"),
    "get_bytes": lambda db: db.get_bytes("k"),
    "get_vector": lambda db: db.get_vector("k"),
    "get_numpy": lambda db: db.get_numpy("k"),
    "get_many": lambda db: db.get_many(["k"]),
    "get_many of nothing": lambda db: db.get_many([]),
    "put_many of nothing": lambda db: db.put_many({}),
    "append_many of nothing": lambda db: db.append_many("k", []),
    "history": lambda db: db.history("k"),
    "get_history_tensor": lambda db: db.get_history_tensor("k"),
    "keys": lambda db: db.keys(),
    "transaction": lambda db: db.transaction(),
    "sequence": lambda db: db.sequence,
    "version": lambda db: db.version("k"),
    "keys of a pattern": lambda db: db.keys("a*"),
    "delete": lambda db: db.delete("k"),
    "delitem": lambda db: db.__delitem__("k"),
    "exists": lambda db: db.exists("k"),
    "contains": lambda db: "k" in db,
    "len": len,
    "iter": iter,
    "compact": lambda db: db.compact(),
    "checkpoint": lambda db: db.checkpoint(),
    "sync": lambda db: db.sync(),
    "refresh": lambda db: db.refresh(),
    "stats": lambda db: db.stats(),
    "verify": lambda db: db.verify(),
    "recovery": lambda db: db.recovery(),
    "backup": lambda db: db.backup("copy.db"),
    "enter": lambda db: db.__enter__(),
}
OPEN_OR_CLOSED = {"close", "closed", "path", "repair"}
"""What a closed handle answers as well; `repair` is of the class."""


@pytest.mark.parametrize("call", CALLS)
def test_defect_26_closed_handle_raises_on_every_call(path: Path, call: str) -> None:
    db = SynaDB(path)
    db.close()
    with pytest.raises(synadb.DatabaseClosedError, match="Database is closed"):
        CALLS[call](db)


def test_defect_26_every_method_is_called_on_a_closed_handle() -> None:
    public = {name for name in dir(SynaDB) if not name.startswith("_")}
    assert public - OPEN_OR_CLOSED == public & CALLS.keys()


def test_defect_26_batch_of_a_closed_handle_raises(path: Path) -> None:
    db = SynaDB(path)
    batch = db.batch()
    batch.put("k", 1)
    db.close()
    with pytest.raises(synadb.DatabaseClosedError):
        batch.commit()


@pytest.mark.parametrize("first", [False, True])
def test_defect_27_each_handle_syncs_as_it_was_asked_to(path: Path, first: bool) -> None:
    def is_synced(db: SynaDB) -> bool:
        stats = db.stats()
        return stats["synced_bytes"] == stats["log_bytes"]

    with SynaDB(path, sync_on_write=first) as one, SynaDB(path, sync_on_write=not first) as other:
        for handle, syncs in [(one, first), (other, not first)] * 2:
            handle.put("k", 1)
            assert is_synced(handle) == syncs
            with handle.batch() as batch:
                batch.put("k", 2)
            assert is_synced(handle) == syncs


def test_defect_29_empty_bytes_and_text_are_not_absent(path: Path) -> None:
    with SynaDB(path) as db:
        db.put_bytes("b", b"")
        db.put_text("t", "")
    with SynaDB(path) as db:
        assert (db.get_bytes("b"), db.get_text("t"), db.get("b"), db["t"]) == (b"", "", b"", "")
        assert (db.exists("b"), "t" in db, db.history("b")) == (True, True, [b""])


STORED = {"float": 1.5, "int": 1, "text": "t", "bytes": b"b", "null": None, "vector": [1.0]}


@pytest.mark.parametrize("wanted", ["float", "int", "text", "bytes", "vector"])
@pytest.mark.parametrize("stored", STORED)
def test_defect_30_one_rule_for_every_typed_get(db: SynaDB, wanted: str, stored: str) -> None:
    if stored == "null":
        db.put_null("k")
    else:
        getattr(db, f"put_{stored}")("k", STORED[stored])
    read = getattr(db, f"get_{wanted}")
    if wanted == stored:
        assert read("k") == STORED[stored]
    else:
        with pytest.raises(synadb.TypeMismatchError, match=f'"k".*{stored}.*{wanted}'):
            read("k")


@pytest.mark.parametrize("wanted", ["float", "int", "text", "bytes", "vector", "numpy"])
def test_defect_30_absent_key_is_none(db: SynaDB, wanted: str) -> None:
    db.put("deleted", 1)
    db.delete("deleted")
    read = getattr(db, f"get_{wanted}")
    assert (read("absent"), read("deleted")) == (None, None)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (4, 1), ()])
@pytest.mark.parametrize("how", ["put_floats_batch", "append_many"])
def test_defect_32_array_of_another_shape_is_refused(
    db: SynaDB, how: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="shape"):
        getattr(db, how)("h", np.ones(shape))
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
def test_defect_32_equal_array_comes_back(path: Path, array: np.ndarray) -> None:
    with SynaDB(path) as db:
        db.put_numpy("a", array)
    with SynaDB(path) as db:
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
        db.checkpoint()
        db.put_int("n", 2)
        assert (db.get_int("n"), db.path) == (2, str(tmp_path / "relative.db"))
    assert list((tmp_path / "other").iterdir()) == []


class Somewhere(os.PathLike[str]):
    """A path of a class of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("form", [str, Path, os.fsencode, Somewhere])
def test_defect_34_path_is_anything_that_names_a_file(path: Path, form: Any) -> None:
    with SynaDB(form(path)) as db:
        db.put("k", 1)
        assert db.path == str(path)


def test_defect_35_keys_are_sorted(path: Path) -> None:
    names = ["b", "a", "ab", "\u00e9", "B", "a\0", "\U0001f600"]
    with SynaDB(path) as db:
        for name in names:
            db.put_int(name, 1)
        db.checkpoint()
        db.put_int("aa", 1)
        db.delete("B")
        expected = sorted([*names, "aa"])
        expected.remove("B")
        assert (db.keys(), list(db)) == (expected, expected)


def test_defect_35_mixed_history_is_typed(db: SynaDB) -> None:
    values = [1.5, 2, "three", b"4", None, math.inf]
    for value in values:
        db.put("h", value)
    assert [(type(v), v) for v in db.history("h")] == [(type(v), v) for v in values]


def test_defect_35_history_tensor_skips_what_is_no_float(db: SynaDB) -> None:
    for value in [1.5, 2, "three", 2.5]:
        db.put("h", value)
    assert db.get_history_tensor("h").tolist() == [1.5, 2.5]


def test_defect_36_missing_folder_is_named_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.db"
    with pytest.raises(synadb.MissingDirectoryError) as caught:
        SynaDB(path)
    assert str(path) in str(caught.value)
    assert "its directory does not exist" in str(caught.value)


def test_defect_36_directory_is_named_with_its_cause(tmp_path: Path) -> None:
    with pytest.raises(synadb.PathIsDirectoryError) as caught:
        SynaDB(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "it is a directory" in str(caught.value)


def test_defect_36_refused_system_call_is_named_with_its_cause(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 300)
    with pytest.raises(synadb.StorageError) as caught:
        SynaDB(path)
    assert str(path) in str(caught.value)
    assert "name too long" in str(caught.value).lower()


@pytest.mark.parametrize("kind", [SynaDB, synadb.VectorStore])
def test_defect_36_failed_constructor_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: Any
) -> None:
    with pytest.raises(synadb.SynaError):
        kind(tmp_path, *([8] if kind is synadb.VectorStore else []))
    gc.collect()
    assert capfd.readouterr() == ("", "")
