"""Arguments that Python or numpy would quietly make something else of: each is refused by name.

As in `test_bad_input.py`, which has the plain cases, nothing changes.
"""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from test_bad_input import GOOD, SURROGATE, WIDTH, Both, assert_refused, text_of

import synadb
from synadb import DbConfig, SearchResult, SynaDB, VectorStore

MASKED = np.ma.MaskedArray([1.0, 2.0], mask=[False, True])
MASKED_ROW = np.ma.MaskedArray(GOOD, mask=[True] + [False] * (WIDTH - 1))
INT64 = 2**63
Case = tuple[Callable[[Both], object], type[Exception], list[str]]


@pytest.fixture
def both(path: Path) -> Iterator[Both]:
    both = Both(path)
    yield both
    both.store.close()
    both.db.close()


PAIRS: dict[str, Case] = {
    "mapping and values": (
        lambda both: both.db.put_many({"a": 1}, [2]),  # type: ignore[call-overload]
        TypeError,
        ["items", "'dict'", "iterable of str in order"],
    ),
    "view of a mapping and values": (
        lambda both: both.db.put_many(MappingProxyType({"a": 1}), [2]),  # type: ignore[call-overload]
        TypeError,
        ["items", "'mappingproxy'", "in order"],
    ),
    "set of keys": (
        lambda both: both.db.put_many({"a", "b"}, [1, 2]),
        TypeError,
        ["items", "'set'", "in order"],
    ),
    "mapping for values": (
        lambda both: both.db.put_many(["a"], {"x": 1}),
        TypeError,
        ["values", "'dict'", "in order"],
    ),
    "set for values": (
        lambda both: both.db.put_many(["a", "b"], {1, 2}),
        TypeError,
        ["values", "'set'", "in order"],
    ),
    "bytes for values": (
        lambda both: both.db.put_many(["a", "b"], b"xy"),
        TypeError,
        ["values", "'bytes'", "iterable of values"],
    ),
    "number for values": (
        lambda both: both.db.put_many(["a"], 3),  # type: ignore[call-overload]
        TypeError,
        ["values", "'int'", "iterable of values"],
    ),
    "scalar array for values": (
        lambda both: both.db.put_many(["a"], np.array(1.0)),
        TypeError,
        ["values", "'ndarray'", "iterable of values"],
    ),
    "cube for values": (
        lambda both: both.db.put_many(["a"], np.ones((1, 1, 1))),
        synadb.DimensionError,
        ["values", "[1, 1, 1]", "one value a key"],
    ),
    "masked values": (
        lambda both: both.db.put_many(["a", "b"], MASKED),
        TypeError,
        ["values", "masked", "fill or compress"],
    ),
    "no pairs": (
        lambda both: both.db.put_many(type("Odd", (), {"items": lambda _: [1]})()),
        TypeError,
        ["items", "pairs"],
    ),
    "None for a mapping": (
        lambda both: both.db.put_many(None),  # type: ignore[call-overload]
        TypeError,
        ["items", "'NoneType'", "mapping"],
    ),
    "set of keys of vectors": (
        lambda both: both.store.insert_batch({"a", "b"}, [GOOD, GOOD]),
        TypeError,
        ["keys", "'set'", "in order"],
    ),
    "mapping of keys of vectors": (
        lambda both: both.store.insert_batch({"a": 1}, [GOOD]),
        TypeError,
        ["keys", "'dict'", "in order"],
    ),
    "bytes for keys": (
        lambda both: both.db.get_many(b"ab"),  # type: ignore[arg-type]
        TypeError,
        ["keys", "'bytes'", "iterable of str"],
    ),
    "number for keys": (
        lambda both: both.db.get_many(3),  # type: ignore[arg-type]
        TypeError,
        ["keys", "'int'", "iterable of str"],
    ),
    "one text for reads": (
        lambda both: both.db.batch(expect=0, reads="ab"),
        TypeError,
        ["reads", "'str'", "iterable of str"],
    ),
    "number for reads": (
        lambda both: both.db.batch(expect=0, reads=3),  # type: ignore[arg-type]
        TypeError,
        ["reads", "'int'", "iterable of str"],
    ),
}


@pytest.mark.parametrize("case", PAIRS)
def test_what_does_not_belong_together_is_refused(both: Both, case: str) -> None:
    call, error, words = PAIRS[case]
    assert_refused(both, lambda: call(both), error, *words)


NO_NUMBERS: dict[str, tuple[Any, type[Exception], list[str]]] = {
    "None among numbers": ([1.0, None], TypeError, ["'NoneType'", "position 1", "real numbers"]),
    "texts as objects": (np.array(["1", "2"], object), TypeError, ["'str'", "position 0"]),
    "None": (None, TypeError, ["'NoneType'", "real numbers"]),
    "generator": ((n for n in range(2)), TypeError, ["'generator'", "real numbers"]),
    "set": ({1, 2}, TypeError, ["'set'", "real numbers"]),
    "dict": ({1: 2}, TypeError, ["'dict'", "real numbers"]),
    "bytes": (b"12", TypeError, ["|S2", "real numbers"]),
    "dates": (np.array(["2020", "2021"], "M8[Y]"), TypeError, ["datetime64[Y]", "real numbers"]),
    "durations": (np.array([1, 2], "m8[s]"), TypeError, ["timedelta64[s]", "real numbers"]),
    "records": (np.zeros(2, [("a", "f8")]), TypeError, ["('a', '<f8')", "real numbers"]),
    "void": (np.zeros(2, "V8"), TypeError, ["|V8", "real numbers"]),
    "ragged": ([[1.0], [1.0, 2.0]], synadb.DimensionError, ["inhomogeneous"]),
    "masked": (MASKED, TypeError, ["masked", "fill or compress"]),
    "complex": (np.array([1j, 2]), TypeError, ["complex128", "real numbers"]),
}
NUMBER_CALLS: dict[str, Callable[[Both, Any], object]] = {
    "values": lambda both, numbers: both.db.append_many("k", numbers),
    "values ": lambda both, numbers: both.db.put_floats_batch("k", numbers),
    "values  ": lambda both, numbers: both.db.batch().append_many("k", numbers),
    "value": lambda both, numbers: both.db.put_vector("k", numbers),
    "Vector": lambda both, numbers: both.store.insert("k", numbers),
    "Vector ": lambda both, numbers: both.store.update("k", numbers),
    "Vector  ": lambda both, numbers: both.db.batch().insert(both.store, "k", numbers),
    "Vectors": lambda both, numbers: both.store.insert_batch(["a", "b"], numbers),
    "Query": lambda both, numbers: both.store.search(numbers),
    "Queries": lambda both, numbers: both.store.search_batch(numbers),
    "vector": lambda _, numbers: SearchResult("k", 1.0, numbers),
}


@pytest.mark.parametrize("call", NUMBER_CALLS)
@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused(both: Both, call: str, kind: str) -> None:
    numbers, error, words = NO_NUMBERS[kind]
    assert_refused(both, lambda: NUMBER_CALLS[call](both, numbers), error, call.strip(), *words)


@pytest.mark.parametrize("call", ["value", "Vector", "Vectors", "Query", "Queries", "vector"])
@pytest.mark.parametrize("number", [1e300, -1e39, 10**300], ids=str)
def test_number_beyond_float32_is_refused(both: Both, call: str, number: float) -> None:
    row = [number] * WIDTH
    numbers = [row, row] if call in ("Vectors", "Queries") else row
    words = [call, "beyond float32"]
    assert_refused(
        both, lambda: NUMBER_CALLS[call](both, numbers), synadb.InvalidVectorError, *words
    )


@pytest.mark.parametrize("number", [10**400, np.longdouble(10) ** 4000], ids=["int", "long"])
def test_number_beyond_float64_is_refused(both: Both, number: object) -> None:
    words = ["values", "beyond float64"]
    assert_refused(both, lambda: both.db.append_many("k", [number]), OverflowError, *words)


def test_numbers_of_many_kinds_are_stored_as_they_are(path: Path) -> None:
    kinds: list[tuple[Any, list[float]]] = [
        ([Decimal("1.5"), Fraction(1, 2)], [1.5, 0.5]),
        (array.array("d", [1, 2]), [1.0, 2.0]),
        (np.arange(4.0)[::-1], [3.0, 2.0, 1.0, 0.0]),
        (np.array([1, 2], ">f8"), [1.0, 2.0]),
        (np.array([1, 2], "<i2"), [1.0, 2.0]),
        (np.broadcast_to(2.0, 3), [2.0, 2.0, 2.0]),
        (np.ma.MaskedArray([1.0, 2.0], mask=False), [1.0, 2.0]),
        (np.array([True, False]), [1.0, 0.0]),
        ([10**30], [1e30]),
        (range(3), [0.0, 1.0, 2.0]),
    ]
    with SynaDB(path, sync_on_write=False) as db:
        for number, (values, wanted) in enumerate(kinds):
            assert db.append_many(f"k{number}", values) == len(wanted)
            assert db.get_history_tensor(f"k{number}").tolist() == wanted


WRONG_RANKS: dict[str, tuple[str, Any, list[str]]] = {
    "column": ("Vector", GOOD.reshape(WIDTH, 1), [f"[{WIDTH}, 1]", f"[{WIDTH}]"]),
    "two rows": ("Vector", np.ones((2, WIDTH // 2)), [f"[2, {WIDTH // 2}]", f"[{WIDTH}]"]),
    "cube of one row": ("Vector", GOOD.reshape(1, 1, WIDTH), [f"[1, 1, {WIDTH}]"]),
    "scalar": ("Vector", 1.0, ["[]", f"[{WIDTH}]"]),
    "no rows": ("Vector", np.ones((0, WIDTH)), [f"[0, {WIDTH}]"]),
    "empty": ("Vector", [], ["0 dimensions", f"expected {WIDTH}"]),
    "batch as a cube": ("Vectors", np.ones((2, 1, WIDTH)), [f"[2, 1, {WIDTH}]", "rows"]),
    "batch as a scalar": ("Vectors", 1.0, ["[]", "rows"]),
    "empty batch of another width": ("Vectors", np.ones((0, 5)), ["5 dimensions", "expected 8"]),
    "empty queries of another width": ("Queries", np.ones((0, 5)), ["5 dimensions", "expected 8"]),
    "query as a column": ("Query", GOOD.reshape(WIDTH, 1), [f"[{WIDTH}, 1]"]),
    "matrix in a result": ("vector", np.ones((2, 2)), ["[2, 2]", "1-D"]),
}


@pytest.mark.parametrize("case", WRONG_RANKS)
def test_wrong_rank_is_refused(both: Both, case: str) -> None:
    call, vector, words = WRONG_RANKS[case]
    assert_refused(
        both, lambda: NUMBER_CALLS[call](both, vector), synadb.DimensionError, call, *words
    )


def test_vector_beside_several_keys_is_refused(both: Both) -> None:
    words = ["keys", "2 keys", "1 vectors"]
    call = lambda: both.store.insert_batch(["a", "b"], GOOD)  # noqa: E731
    assert_refused(both, call, synadb.InvalidArgumentError, *words)


VALUES: dict[str, Case] = {
    "masked scalar": (lambda both: both.db.put("k", np.ma.masked), TypeError, ["value", "masked"]),
    "masked vector": (lambda both: both.db.put("k", MASKED_ROW), TypeError, ["value", "masked"]),
    "masked in a batch": (
        lambda both: both.db.batch().put("k", np.ma.masked),
        TypeError,
        ["value", "masked"],
    ),
    "masked array": (
        lambda both: both.db.put_numpy("k", MASKED),
        TypeError,
        ["arr", "masked", "fill or compress"],
    ),
    "masked bytes": (lambda both: both.db.put_bytes("k", MASKED), TypeError, ["value", "masked"]),  # type: ignore[arg-type]
    "duration": (
        lambda both: both.db.put("k", np.timedelta64(3)),
        TypeError,
        ["value", "'timedelta64'", "float32"],
    ),
    "moment": (
        lambda both: both.db.put("k", np.datetime64(1, "ns")),
        TypeError,
        ["value", "'datetime64'", "float32"],
    ),
    "date": (lambda both: both.db.put("k", date(2020, 1, 1)), TypeError, ["value", "'date'"]),  # type: ignore[arg-type]
    "float64 vector": (
        lambda both: both.db.put("k", np.ones(3)),  # type: ignore[arg-type]
        TypeError,
        ["value", "'ndarray'", "float32"],
    ),
    "unsigned beyond 64 bits": (
        lambda both: both.db.put("k", np.uint64(INT64)),
        OverflowError,
        [str(INT64), str(INT64 - 1)],
    ),
    "addresses of objects": (
        lambda both: both.db.put_bytes("k", np.array([None])),  # type: ignore[arg-type]
        TypeError,
        ["bytes", "'ndarray'", "Python objects"],
    ),
    "None as an array": (
        lambda both: both.db.put_numpy("k", None),
        ValueError,
        ["arr", "NoneType"],
    ),  # type: ignore[arg-type]
    "surrogate text": (
        lambda both: both.db.put_text("k", SURROGATE),
        synadb.InvalidArgumentError,
        ["value: it", "UTF-8"],
    ),
    "surrogate key": (
        lambda both: both.db.put_text(SURROGATE, "t"),
        synadb.InvalidArgumentError,
        ["key: it", "UTF-8"],
    ),
    "surrogate among keys": (
        lambda both: both.db.get_many([SURROGATE]),
        synadb.InvalidArgumentError,
        ["key: it", "UTF-8"],
    ),
    "surrogate pattern": (
        lambda both: both.db.keys(SURROGATE),
        synadb.InvalidArgumentError,
        ["pattern: it", "UTF-8"],
    ),
    "surrogate prefix": (
        lambda both: both.db.keys(prefix=SURROGATE),
        synadb.InvalidArgumentError,
        ["prefix: it", "UTF-8"],
    ),
    "surrogate name": (
        lambda both: VectorStore(both.db, WIDTH, name=SURROGATE),
        synadb.InvalidArgumentError,
        ["name: it", "UTF-8"],
    ),
}


@pytest.mark.parametrize("case", VALUES)
def test_what_would_be_stored_as_something_else_is_refused(both: Both, case: str) -> None:
    call, error, words = VALUES[case]
    assert_refused(both, lambda: call(both), error, *words)


COUNTS: dict[str, Callable[[Both, Any], object]] = {
    "k": lambda both, count: both.store.search(GOOD, k=count),
    "k ": lambda both, count: both.store.search_batch([GOOD], count),
    "expect": lambda both, count: both.db.batch(expect=count),
    "version": lambda both, count: both.db.batch().expect("k", count),
    "dimensions": lambda both, count: VectorStore(both.db, count),
}


@pytest.mark.parametrize(
    ("count", "error"),
    [
        (True, TypeError),
        (np.bool_(True), TypeError),
        (1.0, TypeError),
        ("1", TypeError),
        (2**70, OverflowError),
    ],
)
@pytest.mark.parametrize("argument", COUNTS)
def test_what_is_no_count_is_refused(
    both: Both, argument: str, count: Any, error: type[Exception]
) -> None:
    words = [argument.strip(), "integer"]
    assert_refused(both, lambda: COUNTS[argument](both, count), error, *words)


@pytest.mark.parametrize("argument", ["expect", "version"])
def test_negative_commit_is_refused(both: Both, argument: str) -> None:
    words = [argument, "-1", "from 0"]
    assert_refused(both, lambda: COUNTS[argument](both, -1), OverflowError, *words)


def test_commit_that_is_to_come_is_refused(both: Both) -> None:
    last = both.db.sequence
    words = ["expect", f"{last + 1}", f"last one is {last}"]
    call = lambda: both.db.batch(expect=last + 1)  # noqa: E731
    assert_refused(both, call, synadb.InvalidArgumentError, *words)
    both.db.batch(expect=last).rollback()


def test_any_count_of_neighbours_finds_all_there_are(both: Both) -> None:
    assert len(both.store.search(GOOD, k=2**62)) == 1
    assert [len(hits) for hits in both.store.search_batch([GOOD, GOOD], k=2**40)] == [1, 1]
    assert len(both.store.search(GOOD, k=np.int8(1))) == 1


def test_score_that_is_no_float32_is_refused() -> None:
    with pytest.raises(synadb.InvalidArgumentError, match=r"score: .*float32"):
        SearchResult("k", 1e300, GOOD)
    assert SearchResult("k", math.inf, GOOD).score == math.inf


OPTIONS: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"lock_timeout": math.inf}, synadb.InvalidArgumentError, ["lock_timeout", "inf", "at most"]),
    ({"lock_timeout": 1e300}, synadb.InvalidArgumentError, ["lock_timeout", "at most"]),
    ({"lock_timeout": math.nan}, synadb.InvalidArgumentError, ["lock_timeout", "NaN", "0 or more"]),
    ({"lock_timeout": -0.5}, synadb.InvalidArgumentError, ["lock_timeout", "-0.5", "0 or more"]),
    ({"lock_timeout": True}, TypeError, ["lock_timeout", "'bool'", "seconds"]),
    ({"lock_timeout": "1"}, TypeError, ["lock_timeout", "str"]),
    ({"lock_timeout": 10**400}, OverflowError, ["lock_timeout", "too large"]),
    ({"maintenance": None}, TypeError, ["maintenance", "None", "str"]),
    ({"maintenance": "Thread"}, synadb.InvalidArgumentError, ["maintenance", "'Thread'", "'off'"]),
    ({"access": None}, TypeError, ["access", "None", "str"]),
    ({"sync_on_write": 1}, TypeError, ["sync_on_write", "'int'", "bool"]),
]
DATABASE_OPTIONS: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"checkpoint_bytes": True}, TypeError, ["checkpoint_bytes", "'bool'", "integer"]),
    ({"checkpoint_bytes": 1.5}, TypeError, ["checkpoint_bytes", "'float'", "integer"]),
    ({"checkpoint_bytes": 2**70}, OverflowError, ["checkpoint_bytes", "71 bits"]),
    ({"sync_interval": math.inf}, synadb.InvalidArgumentError, ["sync_interval", "inf", "at most"]),
    ({"sync_interval": -1}, synadb.InvalidArgumentError, ["sync_interval", "-1", "0 or more"]),
    ({"sync_interval": math.nan}, synadb.InvalidArgumentError, ["sync_interval", "NaN"]),
    ({"sync_interval": True}, TypeError, ["sync_interval", "'bool'", "seconds"]),
    ({"auto_compact": True}, TypeError, ["auto_compact", "'bool'", "share"]),
    ({"auto_compact": "half"}, TypeError, ["auto_compact", "str"]),
    ({"auto_compact": 0}, synadb.InvalidArgumentError, ["auto_compact", "0", "below 1"]),
    ({"auto_compact": 1.0}, synadb.InvalidArgumentError, ["auto_compact", "1", "below 1"]),
    ({"auto_compact": float("nan")}, synadb.InvalidArgumentError, ["auto_compact", "NaN"]),
    ({"auto_compact_history": 1}, TypeError, ["auto_compact_history", "'int'", "bool"]),
    ({"create": None}, TypeError, ["create", "None", "bool"]),
    ({"config": DbConfig}, TypeError, ["config.enable_compression", "bool"]),
    ({"config": DbConfig(enable_delta="x")}, TypeError, ["config.enable_delta", "'str'"]),  # type: ignore[arg-type]
]
STORE_OPTIONS: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"backend": 3}, TypeError, ["backend", "'int'", "str"]),
    ({"use_gpu": "no"}, TypeError, ["use_gpu", "'str'", "bool"]),
    ({"faiss_nprobe": "x"}, TypeError, ["faiss_nprobe", "'str'", "int"]),
    ({"faiss_nprobe": True}, TypeError, ["faiss_nprobe", "'bool'", "int"]),
    ({"faiss_nprobe": 0}, synadb.InvalidArgumentError, ["faiss_nprobe", "0", "1 or more"]),
    ({"faiss_index_type": None}, TypeError, ["faiss_index_type", "'NoneType'", "str"]),
    ({"metric": b"cosine"}, TypeError, ["metric", "'bytes'", "str"]),
    ({"name": ""}, synadb.InvalidArgumentError, ["name", "got 0", "1 to 65535 bytes"]),
    ({"name": "n" * 65_536}, synadb.InvalidArgumentError, ["name", "got 65536", "65535 bytes"]),
]


def open_database(path: Path, options: dict[str, Any]) -> object:
    return SynaDB(path, **options)


def open_store(path: Path, options: dict[str, Any]) -> object:
    return VectorStore(path, WIDTH, **options)


@pytest.mark.parametrize(
    ("opened", "options", "error", "words"),
    [
        *[(open_database, *case) for case in OPTIONS + DATABASE_OPTIONS],
        *[(open_store, *case) for case in OPTIONS + STORE_OPTIONS],
    ],
)
def test_bad_option_is_refused_by_its_name(
    path: Path,
    opened: Callable[[Path, dict[str, Any]], object],
    options: dict[str, Any],
    error: type[Exception],
    words: list[str],
) -> None:
    with pytest.raises(error) as caught:
        opened(path, options)
    text = text_of(caught.value)
    assert [word for word in words if word not in text] == []
    if "name" not in options:
        assert not path.exists()
    with SynaDB(path) as db:
        assert db.stats()["tables"] == {}


@pytest.mark.parametrize("option", [{"access": "exclusive"}, {"lock_timeout": 1}])
def test_option_of_the_file_is_refused_beside_an_open_database(
    both: Both, option: dict[str, Any]
) -> None:
    (name,) = option
    words = [name, "of the database"]
    call = lambda: VectorStore(both.db, WIDTH, **option)  # noqa: E731
    assert_refused(both, call, synadb.InvalidArgumentError, *words)


PATHS: dict[str, tuple[Any, type[Exception], list[str]]] = {
    "slash": ("a.db/", synadb.InvalidPathError, ["a.db/", "directory"]),
    "slash and dot": ("a.db/.", synadb.InvalidPathError, ["a.db", "directory"]),
    "slash behind a file": ("there.db/", synadb.InvalidPathError, ["there.db/", "directory"]),
    "empty": ("", synadb.InvalidArgumentError, ["path", "empty"]),
    "NUL": ("a\0.db", synadb.InvalidPathError, ["NUL"]),
    "number": (3, TypeError, ["path", "int"]),
    "None": (None, TypeError, ["path", "NoneType"]),
    "surrogate": (SURROGATE, synadb.InvalidArgumentError, ["path", "UTF-8"]),
}
PATH_CALLS: dict[str, Callable[[Any], object]] = {
    "SynaDB": SynaDB,
    "read_only": lambda path: SynaDB(path, access="read_only"),
    "VectorStore": lambda path: VectorStore(path, WIDTH),
    "backup": lambda path: SynaDB("there.db").backup(path),
    "repair": lambda path: SynaDB.repair("there.db", to=path),
}


@pytest.mark.parametrize("call", PATH_CALLS)
@pytest.mark.parametrize("kind", PATHS)
def test_bad_path_is_refused_and_nothing_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    SynaDB("there.db").close()
    path, error, words = PATHS[kind]
    with pytest.raises(error) as caught:
        PATH_CALLS[call](path)
    words = ["to" if call == "repair" and word == "path" else word for word in words]
    assert [word for word in words if word not in text_of(caught.value)] == []
    assert [file.name for file in tmp_path.iterdir()] == ["there.db"]
