"""Several processes that write to one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Peer:
    """A process that runs what it is told, line by line, with the file open."""

    PROGRAM = textwrap.dedent(
        """
        import sys, numpy as np, synadb
        db = synadb.SynaDB(sys.argv[1], sync_on_write=False, **eval(sys.argv[2]))
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                print(repr(eval(line)), flush=True)
            except synadb.SynaError as error:
                print(type(error).__name__, error, flush=True)
        """
    )

    def __init__(self, path: Path, **options: object) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(path), repr(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.answer()


@contextmanager
def peer(path: Path, **options: object) -> Iterator[Peer]:
    """A peer, ended with the block however that ends."""
    found = Peer(path, **options)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate()


def put_many_times(db: SynaDB) -> None:
    for _ in range(100):
        db.put("b", 0)


def test_each_sees_what_the_other_wrote(path: Path) -> None:
    with SynaDB(path) as db, peer(path) as other:
        db.put("a", 1)
        assert other.ask("db.get('a')") == "1"
        other.ask("db.put('a', 2)")
        other.ask("db.delete('b'), db.put('c', 'text')")
        assert (db.history("a"), db.get("c"), len(db)) == ([1, 2], "text", 2)
        assert (db.stats()["access"], db.stats()["sequence"]) == ("shared", 3)


def test_reader_beside_two_writers_moves_by_refresh(path: Path) -> None:
    with SynaDB(path) as db, peer(path) as other, peer(path, access="read_only") as reader:
        db.put("a", 1)
        other.ask("db.put('b', 2)")
        assert reader.ask("(db.keys(), db.refresh(), db.keys())") == "([], True, ['a', 'b'])"


def test_backup_and_verify_cover_what_the_other_wrote(path: Path, tmp_path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db, peer(path) as other:
        before = db.verify()["bytes"]
        other.ask("db.put('k', 1)")
        assert db.verify()["bytes"] > before
        other.ask("db.put('k', 2)")
        db.backup(tmp_path / "copy.db")
    with SynaDB(tmp_path / "copy.db") as copy:
        assert copy.history("k") == [1, 2]


def test_exclusive_is_refused_beside_a_writer(path: Path) -> None:
    with peer(path) as other:
        other.ask("db.put('a', 1)")
        with pytest.raises(synadb.DatabaseLockedError, match=str(other.process.pid)):
            SynaDB(path, access="exclusive")
        with SynaDB(path) as db:
            assert db["a"] == 1


def test_shared_is_refused_beside_an_exclusive_writer(path: Path) -> None:
    with peer(path, access="exclusive") as other:
        with pytest.raises(synadb.DatabaseLockedError, match=str(other.process.pid)):
            SynaDB(path)
        other.process.kill()
        other.process.wait()
        SynaDB(path).close()


def test_handle_that_is_alone_becomes_exclusive(path: Path) -> None:
    with SynaDB(path) as db, SynaDB(path, access="exclusive") as same:
        db.put("a", 1)
        assert same.stats()["access"] == "exclusive"
        code = "import sys, synadb; synadb.SynaDB(sys.argv[1])"
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"opened for writing by process {os.getpid()}" in done.stderr


def test_handle_beside_another_process_does_not_become_exclusive(path: Path) -> None:
    with SynaDB(path) as db, peer(path):
        with pytest.raises(synadb.DatabaseLockedError):
            SynaDB(path, access="exclusive")
        db.put("a", 1)


def test_regression_file_is_shared_again_when_the_exclusive_handle_closes(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("a", 1)
        first, second = (SynaDB(path, access="exclusive") for _ in range(2))
        first.close()
        assert db.stats()["access"] == "exclusive"
        with db.transaction() as t:
            second.close()
            assert db.stats()["access"] == "shared"
            t["b"] = 2
            with peer(path, lock_timeout=0) as other:
                assert other.ask("db.put('b', 3)").startswith("DatabaseLockedError")
        with peer(path) as other:
            assert other.ask("db['b'], db.put('c', 3) > 0") == "(2, True)"
            db.put("d", 4)
            assert other.ask("db.keys()") == "['a', 'b', 'c', 'd']"


def test_regression_exclusive_waits_as_long_as_was_asked_beside_a_handle_of_its_own(
    path: Path,
) -> None:
    with SynaDB(path) as db, peer(path) as other:
        leaves = threading.Timer(0.5, other.tell, ["db.close()"])
        leaves.start()
        with SynaDB(path, access="exclusive", lock_timeout=30) as alone:
            assert other.answer() == "None"
            alone.put("a", 1)
        leaves.join()
        assert db["a"] == 1


def test_stopped_holder_is_named_when_the_wait_ends(path: Path) -> None:
    with peer(path, maintenance="thread") as other, SynaDB(path, lock_timeout=0.2) as db:
        holder = other.process.pid
        other.tell("[db.put('a', n) for n in iter(int, 1)]")
        named = None
        # It may be stopped in one of the moments in which it has given the lock to others.
        for seen in range(1000, 200_000, 1000):
            while len(db.history("a")) < seen:
                pass
            os.kill(holder, signal.SIGSTOP)
            try:
                put_many_times(db)
            except synadb.DatabaseLockedError as error:
                named = str(error)
                break
            finally:
                os.kill(holder, signal.SIGCONT)
        assert named is not None
        assert str(holder) in named
        db.put("b", "after it went on")


def test_killed_holder_leaves_nothing_to_clean(path: Path) -> None:
    with peer(path) as other, SynaDB(path, sync_on_write=False) as db:
        other.tell("[db.put('a', n) for n in iter(int, 1)]")
        while db.get("a") is None:
            pass
        other.process.kill()
        other.process.wait()
        db.put("b", 1)
        assert (db["a"], db["b"], db.verify()["ok"]) == (0, 1, True)


def test_compaction_moves_the_others_over(path: Path) -> None:
    with SynaDB(path) as db, peer(path) as other, peer(path, access="read_only") as reader:
        for n in range(100):
            other.ask(f"db.put('a', {n})")
        assert reader.ask("db.refresh(), len(db.history('a'))") == "(True, 100)"
        db.compact()
        assert other.ask("db.history('a'), db.put('a', 'new') > 0") == "([99], True)"
        assert db.history("a") == [99, "new"]
        assert reader.ask("len(db.history('a'))") == "100"
        assert reader.ask("db.refresh(), db.history('a')") == "(True, [99, 'new'])"
        other.ask("db.compact()")
        assert (db.history("a"), db.stats()["generation"]) == (["new"], 2)


def test_vectors_of_two_processes_are_one_store(path: Path) -> None:
    rows = np.eye(8, dtype=np.float32)
    with VectorStore(path, 8) as store, peer(path) as other:
        other.ask(f"globals().update(s=synadb.VectorStore({str(path)!r}, 8))")
        for n in range(4):
            store.insert(f"mine/{n}", rows[n])
            other.ask(f"s.insert('its/{n}', np.eye(8, dtype=np.float32)[{n} + 4])")
        found = [store.search(row, k=1)[0].key for row in rows]
        assert found == [f"mine/{n}" for n in range(4)] + [f"its/{n}" for n in range(4)]
        assert other.ask("len(s), s.delete('mine/1'), s.search(np.eye(8)[1], k=1)[0].score") == (
            "(8, True, 1.0)"
        )
        assert "mine/1" not in store


def test_synced_writes_of_two_processes(path: Path) -> None:
    with SynaDB(path, sync_on_write=True) as db, peer(path) as other:
        other.tell("[db.put('a', n) for n in range(2000)] and db.sync()")
        for n in range(200):
            db.put("b", n)
        other.answer()
        assert (len(db.history("a")), len(db.history("b"))) == (2000, 200)


def test_the_last_to_close_trims_the_file(path: Path) -> None:
    with SynaDB(path) as db, peer(path) as other:
        db.put("a", 1)
        db.close()
        assert other.ask("db.put('b', 2) > 0, db.close()") == "(True, None)"
    stats_of = SynaDB(path)
    assert stats_of.stats()["file_bytes"] < 20_000
    assert stats_of.recovery()["torn"] is False


@pytest.mark.parametrize("maintenance", ["inline", "off"])
def test_without_a_thread_the_lock_is_given_back_at_once(path: Path, maintenance: str) -> None:
    with SynaDB(path, sync_on_write=False, maintenance=maintenance) as db, peer(path) as other:
        for n in range(100):
            db.put("a", n)
        assert other.ask("db.put('b', 1) > 0, len(db.history('a'))") == "(True, 100)"


def test_regression_without_memory_for_a_thread_writes_go_on_and_let_others_write(
    path: Path,
) -> None:
    program = textwrap.dedent(
        """
        import os, resource, sys, threading, time, synadb

        def threads():
            tasks = os.listdir("/proc/self/task")
            names = [open(f"/proc/self/task/{task}/comm").read() for task in tasks]
            return sum(name.startswith("synadb-maint") for name in names)

        def put_all(wanted):
            for n in range(2000):
                db.put("k", n)
            # A thread has its name some time after it was made.
            ends = time.monotonic() + 30
            while threads() < wanted and time.monotonic() < ends:
                db.put("k", 1999)
            print(threads(), flush=True)

        db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
        db.put("k", 0)
        # What the thread that opened the file leaves of its stack would do for another.
        threading.stack_size(1 << 20)
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        # A thread wants a stack of 2 MiB.
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), before[1]))
        put_all(0)
        sys.stdin.readline()
        resource.setrlimit(resource.RLIMIT_AS, before)
        put_all(1)
        """
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "0\n"
        with SynaDB(path, lock_timeout=20) as db:
            db.put("other", 1)
            assert db["k"] == 1999
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "1\n"
    assert child.returncode == 0
