"""Transactions and conditional batches: threads, processes, values and vectors together."""

from __future__ import annotations

import multiprocessing as mp
import threading
from pathlib import Path

import numpy as np
import pytest

import synadb


def increment(path: Path, times: int, way: str) -> None:
    with synadb.SynaDB(path, sync_on_write=False, lock_timeout=30) as db:
        for _ in range(times):
            if way == "transaction":
                with db.transaction() as t:
                    t["count"] = t["count"] + 1
                continue
            while True:
                seen = db.sequence
                batch = db.batch(expect=seen)
                batch["count"] = db["count"] + 1
                try:
                    batch.commit()
                    break
                except synadb.ConflictError:
                    continue


@pytest.mark.parametrize("way", ["transaction", "batch"])
def test_increments_of_several_processes_all_count(tmp_path: Path, way: str) -> None:
    path = tmp_path / "a.db"
    with synadb.SynaDB(path, sync_on_write=False) as db:
        db["count"] = 0
        context = mp.get_context("spawn")
        children = [context.Process(target=increment, args=(path, 200, way)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
            assert child.exitcode == 0
        assert db["count"] == 600


def test_a_transaction_commits_at_the_end_of_its_block(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False) as db:
        db["a"] = 1
        with db.transaction() as t:
            t["a"] = 2
            t["b"] = "text"
            del t["absent"]
            assert (t["a"], t.get("b"), t.get("c", 7), "b" in t, "c" in t) == (
                2, "text", 7, True, False,
            )  # fmt: skip
            assert db["a"] == 1
            assert len(t) == 3
        assert (db["a"], db["b"]) == (2, "text")
        assert db.version("a") == db.version("b") == db.sequence == 2
        assert db.version("c") is None


def test_an_exception_rolls_a_transaction_back_and_gives_the_lock_back(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False) as db:
        with pytest.raises(ZeroDivisionError), db.transaction() as t:
            t["a"] = 1 // 0
        assert "a" not in db
        db["a"] = 1
        t = db.transaction()
        t["a"] = 2
        t.rollback()
        assert db["a"] == 1
        with pytest.raises(synadb.InvalidArgumentError, match="batch: it has ended"):
            t.commit()
        with pytest.raises(synadb.InvalidArgumentError, match="batch: it has ended"):
            t.get("a")


def test_a_missing_key_in_a_transaction_is_a_key_error(tmp_path: Path) -> None:
    with (
        synadb.SynaDB(tmp_path / "a.db") as db,
        db.transaction() as t,
        pytest.raises(synadb.KeyNotFoundError, match="missing"),
    ):
        t["missing"]


def test_other_threads_wait_for_a_transaction(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False, lock_timeout=30) as db:
        done = threading.Event()

        def write() -> None:
            db["late"] = 1
            done.set()

        with db.transaction() as t:
            writer = threading.Thread(target=write)
            writer.start()
            assert not done.wait(0.2)
            assert "late" not in db
            t["first"] = 1
        writer.join(30)
        assert db.version("first") < db.version("late")


def hold(path: Path, begun: object, end: object) -> None:
    with synadb.SynaDB(path, sync_on_write=False) as db, db.transaction() as t:
        begun.set()  # type: ignore[attr-defined]
        end.wait(60)  # type: ignore[attr-defined]
        t["held"] = 1


def test_a_transaction_of_another_process_is_named_when_the_wait_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    context = mp.get_context("spawn")
    begun, end = context.Event(), context.Event()
    with synadb.SynaDB(path, sync_on_write=False, lock_timeout=0.2) as db:
        child = context.Process(target=hold, args=(path, begun, end))
        child.start()
        try:
            assert begun.wait(60)
            with pytest.raises(synadb.DatabaseLockedError, match=str(child.pid)):
                db["a"] = 1
            assert db.get("a") is None
        finally:
            end.set()
            child.join(60)
        db["a"] = 1
        assert (db["held"], db["a"]) == (1, 1)


def test_a_write_past_the_open_transaction_of_the_thread_is_refused(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False) as db:
        with db.transaction() as t:
            with pytest.raises(synadb.InvalidArgumentError, match="transaction"):
                db["a"] = 1
            with pytest.raises(synadb.InvalidArgumentError, match="transaction"):
                db.transaction()
            t["a"] = 2
        assert db["a"] == 2


def test_calls_in_a_transaction_of_the_thread_work_or_are_refused_at_once(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", lock_timeout=3600) as db:
        db["a"] = 1
        with db.transaction() as t:
            t["a"] = 2
            with pytest.raises(ValueError, match="this thread has one open"):
                db.compact()
            db.checkpoint()
            db.sync()
            assert db.verify()["ok"]
            db.backup(tmp_path / "b.db")
            assert db.stats()["sequence"] == 1
            assert db.refresh() is False
        assert db["a"] == 2
        assert db.compact()["skipped"] == []
    with synadb.SynaDB(tmp_path / "b.db") as db:
        assert db["a"] == 1


def test_a_transaction_of_another_thread_is_named_when_the_wait_ends(tmp_path: Path) -> None:
    begun, end = threading.Event(), threading.Event()
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False, lock_timeout=0) as db:

        def hold_open() -> None:
            with db.transaction():
                begun.set()
                end.wait(30)

        thread = threading.Thread(target=hold_open)
        thread.start()
        assert begun.wait(30)
        for call in (db.compact, lambda: db.put("a", 1)):
            with pytest.raises(
                synadb.DatabaseLockedError, match="a transaction that is still open"
            ):
                call()
        end.set()
        thread.join()


def test_a_batch_conflicts_with_what_was_changed_since(tmp_path: Path) -> None:
    with synadb.SynaDB(tmp_path / "a.db", sync_on_write=False) as db:
        db["a"], db["b"] = 1, 1
        seen = db.sequence
        db["b"] = 2
        with db.batch(expect=seen) as batch:
            batch["a"] = 2
        with (
            pytest.raises(synadb.ConflictError, match="was changed by commit 3") as caught,
            db.batch(expect=seen, reads=["b"]) as batch,
        ):
            batch["c"] = 2
        assert caught.value.code == -18
        assert "c" not in db
        with pytest.raises(synadb.InvalidArgumentError, match="expect"):
            db.batch(reads=["b"])
        batch = db.batch()
        batch["new"] = 1
        batch.expect("new", None)
        assert batch.commit() == db.version("new")
        batch = db.batch()
        batch["new"] = 2
        batch.expect("new", None)
        with pytest.raises(synadb.ConflictError):
            batch.commit()
        assert db["new"] == 1


def test_a_batch_on_an_absent_key_says_that_its_past_was_compacted_away(path: Path) -> None:
    with synadb.SynaDB(path, sync_on_write=False) as db:
        db["kept"] = 1
        seen = db.sequence
        db["kept"] = 2
        db.compact()
        with pytest.raises(synadb.ConflictError) as caught, db.batch(expect=seen) as batch:
            batch["new"] = 1
        assert str(caught.value) == (
            'key "new" has no value, and whether it was changed after commit 1 is not known: what '
            "became of absent keys up to commit 2 was compacted away"
        )
        with db.batch(expect=db.sequence) as batch:
            batch["new"] = 1
        assert db["new"] == 1


def test_values_and_vectors_commit_together(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with synadb.SynaDB(path, sync_on_write=False) as db:
        store = synadb.VectorStore(db, 3, name="v")
        wide = synadb.VectorStore(db, 40, name="w")
        with db.batch() as batch:
            batch["text"] = "a passage"
            batch.insert(store, "p", [1.0, 0.0, 0.0])
            batch.insert(wide, "p", np.arange(40))
            batch.insert(store, "q", [0.0, 1.0, 0.0])
            batch.remove(store, "q")
            assert len(batch) == 5
        assert db.sequence == 1
        assert (len(store), len(wide), db["text"]) == (1, 1, "a passage")
        t = db.transaction()
        t.insert(store, "r", [0.0, 1.0, 0.0])
        t.rollback()
        assert "r" not in store
        with db.transaction() as t:
            t.insert(store, "r", [0.0, 1.0, 0.0])
            with pytest.raises(synadb.DimensionError):
                t.insert(store, "s", [0.0, 1.0])
            with pytest.raises(synadb.InvalidVectorError):
                t.insert(store, "s", [0.0, float("nan"), 0.0])
        assert store.keys() == ["p", "r"]
    with synadb.SynaDB(path) as db:
        np.testing.assert_array_equal(synadb.VectorStore(db, 40, name="w").get("p"), np.arange(40))


def test_a_store_of_another_file_is_refused(tmp_path: Path) -> None:
    with (
        synadb.SynaDB(tmp_path / "a.db") as db,
        synadb.VectorStore(tmp_path / "b.db", 1) as store,
    ):
        batch = db.batch()
        batch["a"] = 1
        batch.insert(store, "a", [1.0])
        with pytest.raises(synadb.InvalidArgumentError, match="another file"):
            batch.commit()
        assert (len(db), len(store)) == (0, 0)
