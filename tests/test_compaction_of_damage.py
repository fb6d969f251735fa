"""Compaction with `skip_damaged`: what is intact is carried over, and what is not is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from pathlib import Path

KEEPS = [False, "live", True]
Options = dict[str, Any]


def flip(path: Path, text: str) -> None:
    """Changes one bit in the middle of a text that stands once in the file."""
    content = bytearray(path.read_bytes())
    assert content.count(text.encode()) == 1
    content[content.index(text.encode()) + len(text) // 2] ^= 4
    path.write_bytes(content)


def flip_before(path: Path, text: str, distance: int) -> None:
    """Changes one bit so many bytes before a text that stands once in the file."""
    content = bytearray(path.read_bytes())
    assert content.count(text.encode()) == 1
    content[content.index(text.encode()) - distance] ^= 4
    path.write_bytes(content)


def compact(path: Path, keep: bool | str) -> tuple[SynaDB, list[Options]]:
    db = SynaDB(path, sync_on_write=False)
    with pytest.raises(synadb.CorruptionError):
        db.compact(keep_history=keep)  # type: ignore[arg-type]
    report = db.compact(True, keep_history=keep)  # type: ignore[arg-type]
    assert db.verify()["ok"]
    return db, report["skipped"]


def value(n: int) -> str:
    return f"<value {n}>" * 20


@pytest.mark.parametrize("keep", KEEPS)
def test_history_before_a_damaged_value_stays(path: Path, keep: bool | str) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(5):
            db.put("k", value(n))
        db.put("other", 1)
    flip(path, value(4))
    db, (skipped,) = compact(path, keep)
    with db:
        history = [value(n) for n in range(4)]
        assert 'key "k"' in skipped["reason"]
        assert db["k"] == value(3)
        assert db.history("k") == (history if keep else history[-1:])
        assert db["other"] == 1


@pytest.mark.parametrize("keep", KEEPS)
def test_history_behind_a_damaged_value_stays(path: Path, keep: bool | str) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(5):
            db.put("k", value(n))
    flip(path, value(2))
    with SynaDB(path) as db:
        db.compact(True, keep_history=keep)  # type: ignore[arg-type]
        expected = [value(n) for n in (0, 1, 3, 4)]
        assert db.history("k") == (expected if keep else expected[-1:])


@pytest.mark.parametrize("keep", KEEPS)
def test_damaged_key_of_a_commit_loses_no_more_than_it(path: Path, keep: bool | str) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("key of several", 1)
        db.put("between", 1)
        db.put("key of several", 2)
        db.put("behind", 1)
        db.checkpoint()
    content = bytearray(path.read_bytes())
    at = content.rindex(b"key of several")
    content[at + 3] ^= 1
    path.write_bytes(content)
    db, skipped = compact(path, keep)
    with db:
        assert len(skipped) == 1
        assert db.history("key of several") == [1]
        assert (db["between"], db["behind"]) == (1, 1)


@pytest.mark.parametrize("keep", KEEPS)
def test_damaged_record_of_a_batch_loses_no_more_than_it(path: Path, keep: bool | str) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("key-5-old", 0)
        db.put_many({f"key-{n}-name": n for n in range(10)})
        db.put("behind", 1)
        db.checkpoint()
    flip(path, "key-5-name")
    db, skipped = compact(path, keep)
    with db:
        assert len(skipped) == 1
        values = {f"key-{n}-name": n for n in range(10) if n != 5}
        assert {key: db[key] for key in db} == {**values, "key-5-old": 0, "behind": 1}


@pytest.mark.parametrize("keep", KEEPS)
def test_frame_whose_head_is_damaged_is_stepped_over(path: Path, keep: bool | str) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(100):
            db.put(f"[key {n}]", n)
        db.checkpoint()
    flip_before(path, "[key 50]", 20)
    db, skipped = compact(path, keep)
    with db:
        assert len(skipped) == 1
        assert {key: db[key] for key in db} == {f"[key {n}]": n for n in range(100) if n != 50}
        db.put("on", 1)
    with SynaDB(path) as db:
        assert db["on"] == 1


@pytest.mark.parametrize("keep", KEEPS)
def test_older_vector_takes_the_place_of_a_damaged_one(path: Path, keep: bool | str) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    with VectorStore(path, 8, sync_on_write=False) as store:
        for row in rows[:2]:
            store.insert("a", row)
        store.insert("b", rows[2])
    content = bytearray(path.read_bytes())
    content[content.index(rows[1].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with VectorStore(path, 8) as store:
        (skipped,) = store.compact(True, keep_history=keep)["skipped"]  # type: ignore[arg-type]
        assert 'key "a"' in skipped["reason"]
        assert (store.get("a") == rows[0]).all()
        assert (store.get("b") == rows[2]).all()
        assert store.keys() == ["a", "b"]


def test_key_that_was_deleted_behind_the_damage_stays_deleted(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("gone", value(1))
        db.put("gone", value(2))
        db.delete("gone")
        db.put("k", 1)
    flip(path, value(2))
    with SynaDB(path) as db:
        db.compact(True)
        assert list(db) == ["k"]


def test_versions_go_on_as_they_were(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(50):
            db.put(f"k{n}", value(n))
        versions = {f"k{n}": db.version(f"k{n}") for n in range(50)}
        sequence = db.sequence
    flip(path, value(7))
    db, _ = compact(path, True)
    with db:
        assert {key: db.version(key) for key in db} == {
            key: version for key, version in versions.items() if key != "k7"
        }
        assert db.sequence == sequence
