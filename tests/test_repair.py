"""Repair of damaged files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the repaired file goes."""
    return tmp_path / "repaired.db"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.fixture
def damaged(path: Path) -> Path:
    """A file in which a byte of one record is wrong, so that it no longer opens."""
    with SynaDB(path) as db:
        db.put("k", "first")
        at = db.put("k", "second")
        db.put("k", "third")
        db.put("gone", 1)
        db.delete("gone")
        db.append_many("run", np.arange(5.0))
    flip(path, at + 12)
    return path


def test_a_damaged_file_does_not_open_and_its_repair_does(damaged: Path, target: Path) -> None:
    data = damaged.read_bytes()
    with pytest.raises(synadb.CorruptionError):
        SynaDB(damaged)
    report = SynaDB.repair(damaged, to=target)
    assert damaged.read_bytes() == data
    assert (report["bytes_read"], report["kept"]) == (len(data), {"kv": 5})
    [lost] = report["lost"]
    assert lost["offset"] > 8192
    assert lost["bytes"] > 0
    assert (lost["table"], lost["key"], lost["certain"]) == ("kv", "k", False)
    with SynaDB(target) as db:
        assert db.verify()["ok"]
        assert db.history("k") == ["first", "third"]
        assert (db.get("gone"), db.history("run")) == (None, [0.0, 1.0, 2.0, 3.0, 4.0])
        assert db.sequence == 6
        db.put("k", "fourth")
        assert db.history("k") == ["first", "third", "fourth"]


def test_a_damaged_value_is_named_for_certain(path: Path, target: Path) -> None:
    with SynaDB(path) as db:
        db.put("good", bytes(5_000_000))
        db.put("bad", b"x" * 1000)
    flip(path, path.read_bytes().index(b"x" * 1000))
    report = SynaDB.repair(path, target)
    [lost] = report["lost"]
    assert (lost["key"], lost["bytes"], lost["certain"]) == ("bad", 1000, True)
    with SynaDB(target) as db:
        assert db.get("good") == bytes(5_000_000)
        assert "bad" not in db


def test_vectors_come_back(path: Path, target: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    with VectorStore(path, 8) as store:
        store.insert_batch([str(n) for n in range(200)], rows)
        store.insert("7", rows[8])
        store.delete("9")
    rows[7] = rows[8]
    flip(path, path.read_bytes().index(rows[50].tobytes()))
    report = SynaDB.repair(path, target)
    assert [(place["key"], place["certain"]) for place in report["lost"]] == [("50", True)]
    with VectorStore(target) as store:
        assert len(store) == 198
        for key in ("0", "7", "199"):
            assert np.array_equal(store.get(key), rows[int(key)])
        assert "9" not in store
        assert store.search(rows[100], k=1)[0].key == "100"


def test_progress_reaches_the_whole(damaged: Path, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    SynaDB.repair(damaged, target, progress=lambda *reached: seen.append(reached))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    target.unlink()
    SynaDB.repair(damaged, target, progress=True)


def refuse(_done: int, _total: int) -> bool:
    return False


def test_a_cancelled_repair_leaves_nothing(damaged: Path, target: Path) -> None:
    before = sorted(damaged.parent.iterdir())
    with pytest.raises(synadb.CancelledError, match="repair"):
        SynaDB.repair(damaged, target, progress=refuse)
    assert sorted(damaged.parent.iterdir()) == before


@pytest.mark.parametrize("case", ["taken", "itself", "missing", "open", "stranger", "progress"])
def test_what_cannot_be_repaired_is_refused(path: Path, target: Path, case: str) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
    to: Path = path if case == "itself" else target
    options: dict[str, Any] = {"progress": 1} if case == "progress" else {}
    wanted: type[Exception] = {
        "taken": synadb.DatabaseExistsError,
        "itself": synadb.DatabaseExistsError,
        "missing": synadb.DatabaseMissingError,
        "open": synadb.DatabaseLockedError,
        "stranger": synadb.NotADatabaseError,
        "progress": TypeError,
    }[case]
    if case == "taken":
        target.write_bytes(b"mine")
    if case == "stranger":
        path.write_bytes(b"something else altogether" * 400)
    if case == "missing":
        path.unlink()
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    holder = SynaDB(path) if case == "open" else None
    with pytest.raises(wanted):
        SynaDB.repair(path, to, **options)
    if holder is not None:
        holder.close()
    else:
        assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert target.exists() == (case == "taken")
