"""Writes that are not synced are synced by themselves, in every process that has the file open."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sync_waits import become_synced, is_synced

from synadb import MmapVectorStore, SynaDB

WAIT_S = 5.0
"""Seconds until a thread must have its name, or be gone."""


def threads() -> set[str]:
    """Threads of this process that sync, by the names that the system has of them."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().startswith("synadb-sync"):
                found.add(task.name)
        except OSError:
            continue  # It ended meanwhile.
    return found


def become(before: set[str], count: int) -> bool:
    """Whether so many are new; the system lists one that was joined for a moment more."""
    deadline = time.monotonic() + WAIT_S
    while len(threads() - before) != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def test_thread_is_there_while_something_waits_for_it_and_close_joins_it(path: Path) -> None:
    before = threads()
    with SynaDB(path, sync_on_write=False, sync_interval=3600) as db:
        # A thread takes its name once it runs.
        time.sleep(0.05)
        assert threads() <= before
        db["k"] = 1
        assert become(before, 1)
    assert become(before, 0)
    with SynaDB(path, sync_on_write=False, sync_interval=0.01) as db:
        db["k"] = 2
        assert become_synced(db)
        assert become(before, 0)


@pytest.mark.parametrize("options", [{"sync_interval": 0}, {"maintenance": "off"}])
def test_nothing_is_synced_by_itself_where_that_is_off(path: Path, options: dict[str, str]) -> None:
    before = threads()
    with SynaDB(path, sync_on_write=False, **{"sync_interval": 0.01, **options}) as db:  # type: ignore[arg-type]
        db["k"] = 1
        time.sleep(0.1)
        db["k"] = 2
        assert not is_synced(db)
        assert threads() <= before


def test_without_a_thread_the_first_write_behind_the_time_syncs(path: Path) -> None:
    with SynaDB(path, sync_on_write=False, sync_interval=0.05, maintenance="inline") as db:
        db["k"] = 1
        time.sleep(0.06)
        assert not is_synced(db)
        db["k"] = 2
        assert is_synced(db)


def test_store_on_a_path_has_its_thread_too(path: Path) -> None:
    before = threads()
    with MmapVectorStore(path, 2) as store:
        store.insert("k", [1, 2])
        assert become(before, 1)
    assert become(before, 0)


PUTS_AND_DIES = """
import os, sys, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
db["of the other"] = 1
os._exit(0)
"""


def test_what_a_killed_process_left_is_synced_by_who_goes_on(path: Path) -> None:
    with SynaDB(path, sync_on_write=False, sync_interval=0.05) as db:
        subprocess.run([sys.executable, "-c", PUTS_AND_DIES, path], check=True)
        assert db["of the other"] == 1
        db["of this one"] = 1
        assert become_synced(db)


def test_what_a_killed_process_left_is_synced_by_who_opens_the_file(path: Path) -> None:
    subprocess.run([sys.executable, "-c", PUTS_AND_DIES, path], check=True)
    with SynaDB(path, sync_interval=0.05) as db:
        assert db["of the other"] == 1
        assert become_synced(db)


def test_what_one_process_syncs_the_others_know(path: Path) -> None:
    program = """
import sys, synadb
with synadb.SynaDB(sys.argv[1], sync_on_write=False, sync_interval=0.05) as db:
    db["of the other"] = 1
    sys.stdin.read()
"""
    with SynaDB(path, sync_on_write=False, sync_interval=0) as db:
        db["of this one"] = 1
        other = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE)
        try:
            while "of the other" not in db:
                assert other.poll() is None
            assert become_synced(db)
        finally:
            other.communicate()
        assert other.returncode == 0


def test_forked_child_syncs_what_it_writes(path: Path) -> None:
    """Its parent's thread is not there, and its parent has an hour to go."""
    with SynaDB(path, sync_on_write=False, sync_interval=3600) as db:
        db["k"] = 0
        child = os.fork()
        if child == 0:
            status = 1
            try:
                db["k"] = 1
                with SynaDB(path, sync_on_write=False, sync_interval=0.05) as own:
                    own["k"] = 2
                    status = 0 if become_synced(own) else 2
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert is_synced(db)


NO_THREADS = """
import resource, sys, threading, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False, sync_interval=1, access="exclusive")
# What the thread that opened the file leaves of its stack would do for another.
threading.stack_size(1 << 20)
threading.Thread(target=threading.Event().wait, daemon=True).start()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
# A thread wants a stack of 2 MiB.
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), before[1]))
def is_synced():
    stats = db.stats(usage=False)
    return stats["synced_bytes"] >= stats["log_bytes"]
def put():
    db["k"] = 1
    return is_synced()
print(put(), flush=True)
print(any(put() for _ in iter(lambda: not sys.stdin.readline(), True)), flush=True)
resource.setrlimit(resource.RLIMIT_AS, before)
"""


def test_where_no_thread_can_be_had_a_later_write_syncs(path: Path) -> None:
    command = [sys.executable, "-c", NO_THREADS, path]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "False\n"
        time.sleep(1.1)
        child.stdin.write("\n")
        child.stdin.close()
        assert child.stdout.readline() == "True\n"
    assert child.returncode == 0
