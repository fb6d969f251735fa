"""`SynaDB`: typed values, histories, many at once, containers, batches."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import SynaDB

if TYPE_CHECKING:
    from pathlib import Path

LONE_SURROGATE = "a\ud800"


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_import_does_not_load_numpy() -> None:
    code = "import sys, synadb; print('numpy' in sys.modules)"
    assert run_python(code).stdout == "False\n"


def test_typed_use_does_not_load_numpy(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1]) as db:\n"
        "    db.put('k', 'v'); db.put_float('f', 1); db.put_many({'a': 1})\n"
        "    db['k'], db.keys(), db.history('f')\n"
        "print('numpy' in sys.modules)\n"
    )
    assert run_python(code, path).stdout == "False\n"


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert synadb.__version__ == version("synadb")


@pytest.mark.parametrize(
    "value", [None, 0, -1, 1.5, float("inf"), -0.0, "", "text", "\u00e9\U0001f600", b"", b"\0\xff"]
)
def test_value_comes_back_in_its_type(path: Path, value: Any) -> None:
    with SynaDB(path) as db:
        db["k"] = value
    with SynaDB(path) as db:
        assert (type(db["k"]), repr(db["k"])) == (type(value), repr(value))


def test_nan_comes_back(db: SynaDB) -> None:
    db.put("k", float("nan"))
    assert np.isnan(db["k"])


def test_value_of_a_mebibyte_comes_back(path: Path) -> None:
    data = os.urandom(5 << 20)
    with SynaDB(path) as db:
        db.put("k", data)
    with SynaDB(path) as db:
        assert db["k"] == data


def test_value_beyond_the_limit_is_refused(db: SynaDB) -> None:
    with pytest.raises(synadb.ValueTooLargeError, match="limit"):
        db.put_bytes("k", bytes((1 << 30) + 1))
    assert "k" not in db


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (True, 1),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int16(-3), -3),
        (np.bool_(True), 1),
        (np.str_("s"), "s"),
        (bytearray(b"b"), b"b"),
        (memoryview(b"b"), b"b"),
    ],
)
def test_generic_put_takes_the_type_that_fits(db: SynaDB, given: Any, stored: Any) -> None:
    db.put("k", given)
    assert (type(db["k"]), db["k"]) == (type(stored), stored)


def test_generic_put_stores_a_float32_array_as_a_vector(db: SynaDB) -> None:
    db.put("k", np.array([1, 2], dtype=np.float32))
    assert (db["k"].dtype, db["k"].tolist()) == (np.float32, [1.0, 2.0])


@pytest.mark.parametrize("value", [[1.0], {}, object(), 1j, np.zeros(2), np.zeros((2, 2))])
def test_generic_put_refuses_other_types(db: SynaDB, value: Any) -> None:
    with pytest.raises(TypeError, match="cannot store"):
        db.put("k", value)
    assert len(db) == 0


@pytest.mark.parametrize("kind", ["float", "int"])
def test_bool_is_taken_as_a_number(db: SynaDB, kind: str) -> None:
    getattr(db, f"put_{kind}")("k", True)
    assert getattr(db, f"get_{kind}")("k") == 1


@pytest.mark.parametrize(
    ("put", "value"),
    [
        ("put_float", "1.5"),
        ("put_int", 1.0),
        ("put_int", "1"),
        ("put_text", b"t"),
        ("put_text", 1),
        ("put_bytes", "t"),
        ("put_bytes", 3),
        ("put_vector", "t"),
    ],
)
def test_typed_put_refuses_other_types(db: SynaDB, put: str, value: Any) -> None:
    with pytest.raises(TypeError):
        getattr(db, put)("k", value)
    assert len(db) == 0


@pytest.mark.parametrize("key", [1, b"k", None])
def test_key_that_is_no_str_is_a_type_error(db: SynaDB, key: Any) -> None:
    with pytest.raises(TypeError):
        db.put_int(key, 1)
    with pytest.raises(TypeError):
        db.get_int(key)


def test_lone_surrogate_in_a_text_is_refused(db: SynaDB) -> None:
    with pytest.raises(synadb.InvalidArgumentError, match="UTF-8"):
        db.put_text("k", LONE_SURROGATE)
    assert "k" not in db


def test_lone_surrogate_in_a_key_is_refused(db: SynaDB) -> None:
    with pytest.raises(synadb.InvalidArgumentError, match="UTF-8"):
        db.put_many({"good": 1, LONE_SURROGATE: 2})
    assert len(db) == 0


def test_missing_key_raises_and_get_gives_the_default(db: SynaDB) -> None:
    with pytest.raises(KeyError, match="absent"):
        db["absent"]
    assert (db.get("absent"), db.get("absent", 7)) == (None, 7)


def test_del_of_a_missing_key_raises(db: SynaDB) -> None:
    with pytest.raises(synadb.KeyNotFoundError):
        del db["absent"]


def test_container_protocol_follows_a_dict(db: SynaDB) -> None:
    model = {f"k{n}": n for n in range(20)}
    db.put_many(model)
    del db["k3"], model["k3"]
    assert (len(db), list(db), "k3" in db, "k4" in db) == (19, sorted(model), False, True)


def test_keys_match_a_pattern_as_fnmatch_does(db: SynaDB) -> None:
    from fnmatch import filter as matching

    names = ["a", "ab", "a/b", "b1", "b2", "bx", "[", "a*"]
    db.put_many(names, range(len(names)))
    patterns = ["*", "a*", "b[0-9]", "b[!0-9]", "?", "a?", "[[]", "*b", "none*"]
    assert [db.keys(p) for p in patterns] == [sorted(matching(names, p)) for p in patterns]


def test_keys_have_a_prefix(db: SynaDB) -> None:
    db.put_many(["x/1", "x/2", "y/1", "x*"], range(4))
    assert (db.keys(prefix="x/"), db.keys("*1", prefix="x/")) == (["x/1", "x/2"], ["x/1"])


def test_put_many_of_keys_and_an_array(db: SynaDB) -> None:
    db.put_many(["a", "b"], np.array([1.5, 2.5]))
    db.put_many(["c", "d"], np.array([1, 2], dtype=np.uint8))
    assert db.get_many(["a", "b", "c", "d", "e"]) == [1.5, 2.5, 1, 2, None]


def test_put_many_of_the_rows_of_a_matrix_stores_vectors(db: SynaDB) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    db.put_many(["a", "b"], rows)
    assert [db.get_vector(key).tolist() for key in "ab"] == rows.tolist()


@pytest.mark.parametrize("values", [[1], [1, 2, 3]])
def test_put_many_of_unequal_lengths_stores_nothing(db: SynaDB, values: list[int]) -> None:
    with pytest.raises(ValueError, match="2 keys"):
        db.put_many(["a", "b"], values)
    assert len(db) == 0


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ({"a": 1, "b": []}, TypeError),
        ({"a": 1, "b": 2**64}, OverflowError),
        ({"a": 1, "": 2}, ValueError),
        ({"a": 1, "k" * 65_536: 2}, ValueError),
        ({"a": 1, 2: 2}, TypeError),
    ],
)
def test_put_many_with_one_bad_item_stores_nothing(
    db: SynaDB, items: dict[Any, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        db.put_many(items)
    assert len(db) == 0


def test_put_many_takes_more_than_one_commit_holds(path: Path) -> None:
    model = {f"k{n:06}": n for n in range(150_000)}
    with SynaDB(path, sync_on_write=False) as db:
        assert db.put_many(model) == len(model)
    with SynaDB(path) as db:
        assert dict(zip(db, db.get_many(db), strict=True)) == model


def test_one_str_is_no_iterable_of_keys(db: SynaDB) -> None:
    with pytest.raises(TypeError, match="keys must be an iterable of str, not one 'str'"):
        db.get_many("abc")


@pytest.mark.parametrize("values", [[1, 2.5], np.arange(3), np.arange(6.0)[::2], range(4), []])
def test_append_many_takes_any_row_of_numbers(db: SynaDB, values: Any) -> None:
    count = db.append_many("h", values)
    assert (count, db.get_history_tensor("h").tolist()) == (len(values), [float(v) for v in values])


def test_history_tensor_is_one_owned_float64_array(path: Path) -> None:
    values = np.random.default_rng(1).standard_normal(100_000)
    with SynaDB(path, sync_on_write=False) as db:
        db.append_many("h", values)
        tensor = db.get_history_tensor("h")
    tensor += 0.0
    assert (tensor.dtype, tensor.ndim, tensor.tobytes()) == (values.dtype, 1, values.tobytes())


def test_history_of_interleaved_keys(db: SynaDB) -> None:
    for n in range(1000):
        db.put_float(f"s{n % 3}", float(n))
    assert db.get_history_tensor("s1").tolist() == [float(n) for n in range(1, 1000, 3)]


@pytest.mark.parametrize("values", ["12", [1j], ["a"]])
def test_append_many_refuses_what_is_no_number(db: SynaDB, values: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        db.append_many("h", values)
    assert "h" not in db


def test_get_numpy_reads_raw_bytes_of_the_original(db: SynaDB) -> None:
    array = np.arange(6, dtype=np.float32)
    db.put_bytes("a", array.tobytes())
    got = db.get_numpy("a", dtype=np.float32, shape=(2, 3))
    assert got is not None
    assert got.tolist() == array.reshape(2, 3).tolist()


@pytest.mark.parametrize("options", [{"dtype": "i4"}, {"shape": (4, 2)}, {"shape": (5,)}])
def test_get_numpy_refuses_what_does_not_fit(db: SynaDB, options: dict[str, Any]) -> None:
    db.put_numpy("a", np.arange(6.0))
    with pytest.raises(ValueError, match=r"holds|reshape"):
        db.get_numpy("a", **options)


def test_put_numpy_refuses_python_objects(db: SynaDB) -> None:
    with pytest.raises(ValueError, match="arr: Object arrays cannot be stored"):
        db.put_numpy("a", np.array([object()]))
    assert "a" not in db


def test_get_numpy_never_unpickles(db: SynaDB) -> None:
    from io import BytesIO

    target = BytesIO()
    np.save(target, np.array([{}], dtype=object), allow_pickle=True)
    db.put_bytes("a", target.getvalue())
    with pytest.raises(ValueError, match="allow_pickle"):
        db.get_numpy("a")


def test_batch_is_invisible_until_its_end(db: SynaDB) -> None:
    db.put("old", 1)
    with db.batch() as batch:
        batch["new"] = "v"
        batch.append_many("h", [1.0, 2.0])
        del batch["old"]
        assert (len(batch) > 0, db.keys()) == (True, ["old"])
    assert (db.keys(), db["new"], db.get_history_tensor("h").tolist()) == (
        ["h", "new"],
        "v",
        [1.0, 2.0],
    )


def test_batch_keeps_the_order_of_its_changes(db: SynaDB) -> None:
    with db.batch() as batch:
        batch.put("k", 1)
        batch.delete("k")
        batch.put("k", 2)
    assert db.history("k") == [2]


def test_batch_survives_reopening(path: Path) -> None:
    with SynaDB(path) as db, db.batch() as batch:
        for n in range(100):
            batch.put_int(f"k{n:02}", n)
    with SynaDB(path) as db:
        assert db.get_many(db) == list(range(100))


def test_batch_with_a_bad_change_is_as_before_it(db: SynaDB) -> None:
    with db.batch() as batch:
        batch.put("a", 1)
        with pytest.raises(synadb.EmptyKeyError):
            batch.put("", 2)
    assert db.keys() == ["a"]


@pytest.mark.parametrize("call", ["commit", "rollback"])
def test_ended_batch_refuses_more(db: SynaDB, call: str) -> None:
    batch = db.batch()
    batch.put("a", 1)
    getattr(batch, call)()
    with pytest.raises(synadb.InvalidArgumentError, match="ended"):
        batch.put("b", 1)


def test_append_many_is_a_commit_for_each_262144_points(db: SynaDB) -> None:
    before = db.sequence
    assert db.append_many("k", np.arange(2 * 262_144 + 1)) == 2 * 262_144 + 1
    assert db.sequence == before + 3
    db.append_many("k", np.arange(262_144))
    assert db.sequence == before + 4
