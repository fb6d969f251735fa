"""Bad keys, values, vectors, options: each has an exception that names the argument.

Nothing changes: every case compares the bytes of the file, and what it answers, before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synadb
from synadb import DbConfig, SynaDB, VectorStore

WIDTH = 8
GOOD = np.ones(WIDTH, dtype=np.float32)
SURROGATE = "a\ud800"
NAN_ROW = np.array([0, 0, 0, np.nan, 0, 0, 0, 0], dtype=np.float32)
INF_ROW = np.array([0, 0, 0, 0, 0, -np.inf, 0, 0], dtype=np.float32)


class Both:
    """A database and a store in one file, and what they hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = SynaDB(path, sync_on_write=False)
        self.store = VectorStore(self.db, WIDTH)
        self.db.put("k", 1)
        self.store.insert("k", GOOD)

    def state(self) -> tuple[Any, ...]:
        """The bytes of the file, and what a caller sees of it."""
        values = [self.db.history(key) for key in self.db]
        rows = [self.store[key].tolist() for key in self.store]
        sizes = (len(self.db), len(self.store), self.db.sequence)
        return self.path.read_bytes(), values, rows, sizes


@pytest.fixture
def both(path: Path) -> Iterator[Both]:
    both = Both(path)
    yield both
    both.store.close()
    both.db.close()


def text_of(error: BaseException) -> str:
    """What a caller reads: the message and the notes that name the argument."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def assert_refused(
    both: Both, call: Callable[[], object], error: type[Exception], *words: str
) -> None:
    """The call raises exactly this class, says these words, and changes nothing."""
    before = both.state()
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    text = text_of(caught.value)
    assert [word for word in words if word not in text] == []
    assert both.state() == before


KEY_CALLS: dict[str, Callable[[Both, Any], object]] = {
    "put": lambda both, key: both.db.put(key, 1),
    "append": lambda both, key: both.db.append(key, 1),
    "put_float": lambda both, key: both.db.put_float(key, 1.0),
    "put_int": lambda both, key: both.db.put_int(key, 1),
    "put_text": lambda both, key: both.db.put_text(key, "t"),
    "put_bytes": lambda both, key: both.db.put_bytes(key, b"b"),
    "put_null": lambda both, key: both.db.put_null(key),
    "put_vector": lambda both, key: both.db.put_vector(key, GOOD),
    "put_numpy": lambda both, key: both.db.put_numpy(key, GOOD),
    "put_floats_batch": lambda both, key: both.db.put_floats_batch(key, [1.0]),
    "append_many": lambda both, key: both.db.append_many(key, [1.0]),
    "put_many": lambda both, key: both.db.put_many({"good": 1, key: 1}),
    "put_many of keys": lambda both, key: both.db.put_many(["good", key], [1, 1]),
    "db[key] =": lambda both, key: both.db.__setitem__(key, 1),
    "batch": lambda both, key: put_in_a_batch(both, key),
    "transaction": lambda both, key: put_in_a_transaction(both, key),
    "get": lambda both, key: both.db.get(key),
    "get_float": lambda both, key: both.db.get_float(key),
    "get_many": lambda both, key: both.db.get_many(["k", key]),
    "db[key]": lambda both, key: both.db[key],
    "exists": lambda both, key: both.db.exists(key),
    "history": lambda both, key: both.db.history(key),
    "get_history_tensor": lambda both, key: both.db.get_history_tensor(key),
    "delete": lambda both, key: both.db.delete(key),
    "del db[key]": lambda both, key: both.db.__delitem__(key),
    "insert": lambda both, key: both.store.insert(key, GOOD),
    "insert_batch": lambda both, key: both.store.insert_batch(["good", key], [GOOD, GOOD]),
    "update": lambda both, key: both.store.update(key, GOOD),
    "store.get": lambda both, key: both.store.get(key),
    "store[key]": lambda both, key: both.store[key],
    "store.delete": lambda both, key: both.store.delete(key),
}


def put_in_a_batch(both: Both, key: Any) -> None:
    with both.db.batch() as batch:
        batch.put("good", 1)
        batch.put(key, 1)


def put_in_a_transaction(both: Both, key: Any) -> None:
    with both.db.transaction() as transaction:
        transaction.put("good", 1)
        transaction.put(key, 1)


BAD_KEYS: list[tuple[Any, type[Exception], list[str]]] = [
    ("", synadb.EmptyKeyError, ["Empty key", "1 to 65535 bytes"]),
    ("k" * 65_536, synadb.KeyTooLongError, ["Key", "65536 bytes", "65535"]),
    (SURROGATE, synadb.InvalidArgumentError, ["key: it", "UTF-8", "ud800", "position 1"]),
    (1, TypeError, ["key", "'int'", "str"]),
    (b"k", TypeError, ["key", "'bytes'", "str"]),
]


@pytest.mark.parametrize("call", KEY_CALLS)
@pytest.mark.parametrize(
    ("key", "error", "words"), BAD_KEYS, ids=["empty", "long", "surrogate", "int", "bytes"]
)
def test_bad_key_is_refused(
    both: Both, call: str, key: Any, error: type[Exception], words: list[str]
) -> None:
    assert_refused(both, lambda: KEY_CALLS[call](both, key), error, *words)


VALUE_CALLS: dict[str, tuple[Callable[[SynaDB], object], type[Exception], list[str]]] = {
    "text for a float": (lambda db: db.put_float("k", "1.5"), TypeError, ["value", "str", "real"]),
    "None for a float": (lambda db: db.put_float("k", None), TypeError, ["value", "NoneType"]),
    "float for an int": (lambda db: db.put_int("k", 1.0), TypeError, ["value", "'float'", "int"]),
    "text for an int": (lambda db: db.put_int("k", "1"), TypeError, ["value", "'str'", "int"]),
    "bytes for a text": (lambda db: db.put_text("k", b"t"), TypeError, ["value", "'bytes'", "str"]),
    "int for a text": (lambda db: db.put_text("k", 1), TypeError, ["value", "'int'", "str"]),
    "text for bytes": (lambda db: db.put_bytes("k", "b"), TypeError, ["value", "'str'", "bytes"]),
    "int for bytes": (lambda db: db.put_bytes("k", 3), TypeError, ["value", "'int'", "bytes"]),
    "text for a vector": (lambda db: db.put_vector("k", "v"), TypeError, ["value", "<U1", "real"]),
    "matrix for a vector": (
        lambda db: db.put_vector("k", np.ones((2, 2))),
        synadb.DimensionError,
        ["value", "1-D", "[2, 2]"],
    ),
    "long vector": (
        lambda db: db.put_vector("k", np.zeros(65_536)),
        synadb.InvalidArgumentError,
        ["value", "65535", "65536"],
    ),
    "long vector in put_many": (
        lambda db: db.put_many({"good": 1, "k": np.zeros(65_536, dtype=np.float32)}),
        synadb.InvalidArgumentError,
        ["value", "65535", "65536"],
    ),
    "object": (lambda db: db.put("k", object()), TypeError, ["value", "'object'", "float32"]),
    "list": (lambda db: db.append("k", [1.0]), TypeError, ["value", "'list'", "float32"]),
    "object in put_many": (
        lambda db: db.put_many({"good": 1, "k": {}}),
        TypeError,
        ["value", "'dict'", "float32"],
    ),
    "array of objects": (lambda db: db.put_numpy("k", [object()]), ValueError, ["Object arrays"]),
    "surrogate text": (
        lambda db: db.put_text("k", SURROGATE),
        synadb.InvalidArgumentError,
        ["value: it", "UTF-8", "ud800"],
    ),
    "surrogate text in put_many": (
        lambda db: db.put_many({"good": 1, "k": SURROGATE}),
        synadb.InvalidArgumentError,
        ["value: it", "UTF-8", "ud800"],
    ),
    "texts for floats": (
        lambda db: db.append_many("k", ["x"]),
        TypeError,
        ["values", "real numbers", "<U1"],
    ),
    "matrix for floats": (
        lambda db: db.append_many("k", np.ones((2, 3))),
        synadb.DimensionError,
        ["values", "1-D", "[2, 3]"],
    ),
    "number for floats": (
        lambda db: db.put_floats_batch("k", 1.0),
        synadb.DimensionError,
        ["values", "1-D", "[]"],
    ),
    "complex for floats": (
        lambda db: db.append_many("k", [1j]),
        TypeError,
        ["values", "real numbers", "complex128"],
    ),
    "fewer keys than values": (
        lambda db: db.put_many(["a"], [1, 2]),
        synadb.InvalidArgumentError,
        ["keys", "1 keys", "2 values"],
    ),
    "one text for keys": (lambda db: db.put_many("ab", [1, 2]), TypeError, ["items", "'str'"]),
    "one text for values": (lambda db: db.put_many(["a"], "b"), TypeError, ["values", "str"]),
    "number for a mapping": (lambda db: db.put_many(3), TypeError, ["mapping"]),
}


@pytest.mark.parametrize("case", VALUE_CALLS)
def test_bad_value_is_refused(both: Both, case: str) -> None:
    call, error, words = VALUE_CALLS[case]
    assert_refused(both, lambda: call(both.db), error, *words)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**70_000], ids=["max", "min", "huge"])
@pytest.mark.parametrize("how", ["put_int", "put", "append", "put_many", "batch", "setitem"])
def test_integer_beyond_64_bits_is_refused(both: Both, how: str, value: int) -> None:
    calls: dict[str, Callable[[], object]] = {
        "put_int": lambda: both.db.put_int("k", value),
        "put": lambda: both.db.put("k", value),
        "append": lambda: both.db.append("k", value),
        "put_many": lambda: both.db.put_many({"good": 1, "k": value}),
        "batch": lambda: both.db.batch().put_int("k", value),
        "setitem": lambda: both.db.__setitem__("k", value),
    }
    words = [f"one of {value.bit_length()} bits", str(2**63 - 1), "integer"]
    assert_refused(both, calls[how], OverflowError, *words)


BEYOND = (1 << 30) + 1
BEYOND_THE_LIMIT: dict[str, Callable[[SynaDB], object]] = {
    "put_bytes": lambda db: db.put_bytes("k", bytes(BEYOND)),
    "put_text": lambda db: db.put_text("k", "t" * BEYOND),
    "put_many": lambda db: db.put_many({"good": 1, "k": bytes(BEYOND)}),
    "put_many of several commits": lambda db: db.put_many(
        {**{f"n{n}": n for n in range(70_000)}, "k": bytes(BEYOND)}
    ),
}


@pytest.mark.parametrize("how", BEYOND_THE_LIMIT)
def test_value_over_the_limit_is_refused(both: Both, how: str) -> None:
    words = ['"k"', "1073741825 bytes", "1073741824"]
    assert_refused(both, lambda: BEYOND_THE_LIMIT[how](both.db), synadb.ValueTooLargeError, *words)


@pytest.mark.parametrize("key", ["", "k" * 65_536, SURROGATE])
def test_bad_key_behind_a_whole_commit_of_put_many_is_refused(both: Both, key: str) -> None:
    items = {**{f"n{n}": n for n in range(70_000)}, key: 1}
    before = both.state()
    with pytest.raises((synadb.EmptyKeyError, synadb.KeyTooLongError, synadb.InvalidArgumentError)):
        both.db.put_many(items)
    assert both.state() == before


def test_bad_key_behind_a_whole_commit_of_insert_batch_is_refused(path: Path) -> None:
    width, count = 65_535, 1030
    keys = [*(f"n{n}" for n in range(count - 1)), ""]
    with VectorStore(path, width, sync_on_write=False) as store:
        before = path.read_bytes()
        with pytest.raises(synadb.EmptyKeyError):
            store.insert_batch(keys, np.zeros((count, width), dtype=np.float32))
        assert (len(store), path.read_bytes()) == (0, before)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("", synadb.EmptyKeyError),
        ("k" * 70_000, synadb.KeyTooLongError),
        (SURROGATE, synadb.InvalidArgumentError),
        (7, TypeError),
    ],
)
def test_bad_key_behind_many_rows_is_refused(path: Path, bad: Any, error: type[Exception]) -> None:
    """The rows of a large batch are looked at before its keys are."""
    rows = np.arange(20_000 * 64, dtype=np.float32).reshape(-1, 64)
    keys = [f"n{n}" for n in range(len(rows))]
    with VectorStore(path, 64, sync_on_write=False) as store:
        before = path.read_bytes()
        with pytest.raises(error):
            store.insert_batch([*keys[:-1], bad], rows)
        assert (len(store), path.read_bytes()) == (0, before)
        assert store.insert_batch(keys, rows) == len(rows)
        assert np.array_equal(store.get_batch(keys), rows)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\0\0", "\u00e9\0\U0001f600"])
def test_nul_is_kept_exactly_in_keys_and_texts(path: Path, text: str) -> None:
    with SynaDB(path) as db, VectorStore(db, WIDTH) as store:
        db.put(text, text)
        db.put("a", "neighbour")
        store.insert(text, GOOD)
    with SynaDB(path) as db, VectorStore(db, WIDTH) as store:
        assert (db[text], db.history(text), text in list(db)) == (text, [text], True)
        assert (db["a"], store.keys(), store[text].tolist()) == ("neighbour", [text], GOOD.tolist())


WRONG_VECTORS: dict[str, tuple[Any, type[Exception], list[str]]] = {
    "short": (np.ones(5), synadb.DimensionError, ["5 dimensions", "expected 8"]),
    "long": (np.ones(9), synadb.DimensionError, ["9 dimensions", "expected 8"]),
    "cube": (np.ones((2, 2, 2)), synadb.DimensionError, ["shape [2, 2, 2]", "8]"]),
    "nan": (NAN_ROW, synadb.InvalidVectorError, ["component 3", "NaN"]),
    "inf": (INF_ROW, synadb.InvalidVectorError, ["component 5", "inf"]),
    "text": ("abcdefgh", TypeError, ["real numbers", "<U8"]),
    "complex": ([1j] * WIDTH, TypeError, ["real numbers", "complex128"]),
}
VECTOR_CALLS: dict[str, Callable[[VectorStore, Any], object]] = {
    "Vector": lambda store, vector: store.insert("new", vector),
    "Vectors": lambda store, vector: store.insert_batch(["new"], vector),
    "Query": lambda store, vector: store.search(vector),
    "Queries": lambda store, vector: store.search_batch(vector),
    "update": lambda store, vector: store.update("k", vector),
}


@pytest.mark.parametrize("call", VECTOR_CALLS)
@pytest.mark.parametrize("kind", WRONG_VECTORS)
def test_bad_vector_is_refused(both: Both, call: str, kind: str) -> None:
    vector, error, words = WRONG_VECTORS[kind]
    subject = [] if call == "update" or error is synadb.InvalidVectorError else [call]
    assert_refused(both, lambda: VECTOR_CALLS[call](both.store, vector), error, *words, *subject)


@pytest.mark.parametrize("row", [NAN_ROW, INF_ROW], ids=["nan", "inf"])
def test_one_bad_row_refuses_the_batch(both: Both, row: np.ndarray) -> None:
    rows = np.vstack([GOOD] * 99 + [row])
    keys = [f"n{n}" for n in range(100)]
    words = ['"n99"', "component"]
    assert_refused(
        both, lambda: both.store.insert_batch(keys, rows), synadb.InvalidVectorError, *words
    )


def test_one_bad_row_of_many_leaves_no_more_than_free_space(both: Both) -> None:
    """The rows of a large commit are checked on their way into space reserved for them."""
    rows = np.vstack([GOOD] * 9999 + [NAN_ROW])
    keys = [f"n{n}" for n in range(10_000)]
    before = both.state()
    for _ in range(3):
        with pytest.raises(synadb.InvalidVectorError, match=r'"n9999".*component 3'):
            both.store.insert_batch(keys, rows)
    assert both.state()[1:] == before[1:]
    assert len(both.path.read_bytes().rstrip(b"\0")) < 2 * rows.nbytes
    both.store.insert_batch(keys[:-1], rows[:-1])
    assert len(both.path.read_bytes().rstrip(b"\0")) < 5 * rows.nbytes


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"metric": "l2"}, synadb.InvalidArgumentError, ["metric", "'l2'", "cosine, euclidean"]),
        ({"metric": ""}, synadb.InvalidArgumentError, ["metric", "''", "cosine, euclidean"]),
        ({"metric": 3}, TypeError, ["metric", "'int'", "str"]),
        ({"dimensions": 0}, synadb.DimensionError, ["Dimensions", "1 and 65535", "got 0"]),
        ({"dimensions": -1}, synadb.DimensionError, ["Dimensions", "1 and 65535", "got -1"]),
        ({"dimensions": 65_536}, synadb.DimensionError, ["1 and 65535", "got 65536"]),
        ({"dimensions": 8.0}, TypeError, ["dimensions", "'float'", "integer"]),
    ],
)
def test_bad_argument_of_a_store_is_refused_and_no_file_made(
    path: Path, arguments: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        VectorStore(path, **{"dimensions": WIDTH, **arguments})
    text = text_of(caught.value)
    assert [word for word in words if word not in text] == []
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"access": "w"}, synadb.InvalidArgumentError, ["access", "'w'", "'exclusive'"]),
        ({"maintenance": "no"}, synadb.InvalidArgumentError, ["maintenance", "'no'", "'thread'"]),
        ({"lock_timeout": -1}, synadb.InvalidArgumentError, ["lock_timeout", "-1", "0 or more"]),
        ({"checkpoint_bytes": -1}, OverflowError, ["checkpoint_bytes", "-1", "from 0"]),
        ({"sync_on_write": "yes"}, TypeError, ["sync_on_write", "'str'", "bool"]),
        ({"config": 3}, TypeError, ["config", "'int'", "DbConfig"]),
        ({"config": DbConfig(sync_on_write="y")}, TypeError, ["'str'", "bool"]),  # type: ignore[arg-type]
    ],
)
def test_bad_option_is_refused_and_no_file_made(
    path: Path, arguments: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        SynaDB(path, **arguments)
    text = text_of(caught.value)
    assert [word for word in words if word not in text] == []
    assert not path.exists()


def test_negative_k_is_refused(both: Both) -> None:
    for search in (both.store.search, both.store.search_batch):
        words = ["k:", "0 or more", "-1"]
        assert_refused(both, lambda s=search: s(GOOD, k=-1), synadb.InvalidArgumentError, *words)


@pytest.mark.parametrize("kind", ["db", "store", "batch"])
def test_closed_handle_is_refused(path: Path, kind: str) -> None:
    both = Both(path)
    batch = both.db.batch()
    batch.put("k", 2)
    both.store.close()
    both.db.close()
    before = path.read_bytes()
    call: dict[str, Callable[[], object]] = {
        "db": lambda: both.db.put("k", 2),
        "store": lambda: both.store.insert("k", GOOD),
        "batch": batch.commit,
    }
    with pytest.raises(synadb.DatabaseClosedError, match="Database is closed"):
        call[kind]()
    assert path.read_bytes() == before
