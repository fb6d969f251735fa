"""What `stats()` says of bytes, of the checkpoint and of how the file is open."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore
from synadb.reports import ByteCounts, Recovery, Stats, TableBytes

ROW = 448
"""Bytes between rows of 100 float32: 400, rounded up to 64."""


def checked(stats: Stats) -> Stats:
    """The same, once its parts are seen to make up the whole."""
    kinds = ("live", "history", "dead")
    for kind in kinds:
        total = stats[f"{kind}_bytes"]  # type: ignore[literal-required]
        by_type = sum(found[kind] for found in stats["bytes_by_type"].values())
        tables = stats["bytes_by_table"].values()
        assert total == by_type == sum(table[kind] for table in tables)
        assert all(
            table[kind] == sum(found[kind] for found in table["types"].values()) for table in tables
        )
    assert stats["reserved_bytes"] == sum(table["reserved"] for table in tables)
    rest = stats["reserved_bytes"] + stats["overhead_bytes"]
    assert sum(stats[f"{kind}_bytes"] for kind in kinds) + rest == stats["log_bytes"]  # type: ignore[literal-required]
    assert stats["bytes_by_table"].keys() == stats["tables"].keys()
    return stats


def test_keys_and_types_are_those_of_the_class(path: Path) -> None:
    with SynaDB(path) as db, VectorStore(db, 8) as store:
        store.insert("v", np.ones(8))
        db.put("k", 1)
        db.checkpoint()
        for found in (db.stats(), store.stats()):
            hints = get_type_hints(Stats)
            assert found.keys() == hints.keys()
            for key, hint in hints.items():
                if hint in (int, str, bool, float | None):
                    assert isinstance(found[key], get_args(hint) or hint), key  # type: ignore[literal-required]
            assert found["recovery"].keys() == Recovery.__annotations__.keys()
            table = found["bytes_by_table"]["kv"]
            assert table.keys() == get_type_hints(TableBytes).keys()
            assert table["types"]["int"].keys() == ByteCounts.__annotations__.keys()
        brief = db.stats(usage=False)
        assert set(found) - set(brief) == {
            *(f"{kind}_bytes" for kind in ("live", "history", "dead", "reserved", "overhead")),
            "bytes_by_type",
            "bytes_by_table",
        }


def test_handles_are_those_of_the_file_whoever_writes_or_reads(path: Path) -> None:
    def counts(*handles: SynaDB | VectorStore) -> set[int]:
        return {handle.stats(usage=False)["handles"] for handle in handles}

    with VectorStore(path, 8) as alone:
        assert counts(alone) == {1}
    with (
        SynaDB(path) as db,
        SynaDB(path, access="read_only") as reader,
        VectorStore(path, 8) as store,
        VectorStore(db, 8, name="other") as other,
    ):
        assert counts(db, reader, store, other) == {4}
        second = SynaDB(path, access="read_only")
        assert counts(db, reader, store, other, second) == {5}
        reader.close()
        db.close()
        assert counts(store, other, second) == {3}
        second.close()
        assert counts(store, other) == {2}


def test_overwritten_is_history_and_deleted_is_dead(db: SynaDB) -> None:
    db.put("first", None)
    costs = []
    for text in ("a" * 100, "b" * 1000, "c" * 10_000):
        before = db.stats()["log_bytes"]
        db.put("k", text)
        costs.append(db.stats()["log_bytes"] - before)
    assert checked(db.stats())["bytes_by_type"]["text"] == {
        "live": costs[2],
        "history": costs[0] + costs[1],
        "dead": 0,
    }
    before = db.stats()["log_bytes"]
    assert db.delete("k")
    cost_of_delete = db.stats()["log_bytes"] - before
    found = checked(db.stats())["bytes_by_type"]
    assert found["text"] == {"live": 0, "history": 0, "dead": sum(costs)}
    assert found["delete"] == {"live": 0, "history": 0, "dead": cost_of_delete}
    db.put("k", "again")
    assert checked(db.stats())["bytes_by_type"]["text"]["history"] == 0
    db.compact()
    found = checked(db.stats())["bytes_by_type"]
    assert found.keys() == {"null", "text"}
    assert (db.stats()["dead_bytes"], db.stats()["history_bytes"]) == (0, 0)


def test_histories_count_by_run_and_by_point(db: SynaDB) -> None:
    db.append_many("run", np.arange(10_000.0))
    db.append_many("run", np.arange(5_000.0))
    db.put_float("run", 1.0)
    found = checked(db.stats())["bytes_by_type"]["float"]
    assert 15_000 * 8 < found["history"] < 15_000 * 8 + 200
    assert 8 < found["live"] < 100


def test_large_values_count_with_their_extents(db: SynaDB) -> None:
    large = bytes((4 << 20) + 1)
    db.put("large", large)
    found = checked(db.stats())
    assert len(large) < found["live_bytes"] < len(large) + 1000
    assert found["reserved_bytes"] == 0
    db.put("large", b"small")
    found = checked(db.stats())
    assert found["history_bytes"] > len(large)
    db.delete("large")
    assert checked(db.stats())["dead_bytes"] > len(large)


def test_vectors_count_with_rows_that_are_taken(path: Path) -> None:
    rows = np.ones((50, 100), dtype=np.float32)
    with VectorStore(path, 100, sync_on_write=False) as store:
        store.insert_batch([str(n) for n in range(50)], rows)
        found = checked(store.stats())["bytes_by_table"]["vector:vec/"]
        assert found["live"] > 50 * ROW
        assert (found["history"], found["dead"]) == (0, 0)
        for n in range(10):
            store.update(str(n), rows[n])
        for n in range(20):
            store.delete(str(n))
        found = checked(store.stats())["bytes_by_table"]["vector:vec/"]
        assert 30 * ROW < found["types"]["vector"]["live"] < 31 * ROW + 30 * 80
        assert found["types"]["vector"]["dead"] > 30 * ROW
        assert found["history"] == 0
        assert found["types"].keys() == {"vector", "delete"}


def test_usage_is_of_all_processes_and_the_same_after_reopening(path: Path) -> None:
    program = "import sys, synadb; synadb.SynaDB(sys.argv[1]).put('other', 'o' * 5000)"
    with SynaDB(path, sync_on_write=False) as db:
        db.put("mine", "m" * 5000)
        db.put("mine", "n" * 5000)
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
        found = checked(db.stats())
        assert found["live_bytes"] > 10_000
        db.checkpoint()
    for access in ("read_only", "exclusive"):
        with SynaDB(path, access=access) as again:
            stats = checked(again.stats())
            assert stats["access"] == access
            assert stats["bytes_by_table"] == found["bytes_by_table"]


def test_writers_go_on_while_bytes_are_counted(db: SynaDB) -> None:
    db.put_many({f"k{n}": n for n in range(100_000)})
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            db.put("k0", "text")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        totals = [db.stats()["history_bytes"] for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    assert totals == sorted(totals)
    checked(db.stats())


def test_age_of_the_checkpoint_and_log_behind_it(db: SynaDB, path: Path) -> None:
    assert db.stats()["checkpoint_age"] is None
    db.put("k", "v" * 1000)
    assert db.stats()["tail_bytes"] > 1000
    db.checkpoint()
    stats = db.stats()
    assert stats["checkpoint_age"] is not None
    assert (0 <= stats["checkpoint_age"] < 60, stats["tail_bytes"]) == (True, 0)
    before = stats["log_bytes"]
    db.put("k", "w" * 1000)
    assert db.stats()["tail_bytes"] == db.stats()["log_bytes"] - before
    saved = path.with_name(path.name + "-ckpt")
    changed = saved.stat().st_mtime - 3600
    os.utime(saved, (changed, changed))
    age = db.stats()["checkpoint_age"]
    assert age is not None
    assert 3600 <= age < 3660
    saved.unlink()
    assert db.stats()["checkpoint_age"] is None


def test_checkpoint_of_another_process_counts(path: Path) -> None:
    program = "import sys, synadb; synadb.SynaDB(sys.argv[1]).checkpoint()"
    with SynaDB(path, sync_on_write=False) as db:
        db.put("k", "v" * 1000)
        subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
        stats = db.stats()
        assert stats["checkpoint_age"] is not None
        assert stats["tail_bytes"] == 0


def test_damage_is_told_and_the_brief_form_does_not_look(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", "text that rots")
        db.put("l", 1)
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(b"that rots"))
            file.write(b"This")
        with pytest.raises(synadb.CorruptionError):
            db.stats()
        assert db.stats(usage=False)["tables"] == {"kv": 2}
