"""The thread of an open file: when it is there, that `close()` joins it, and doing without."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from synadb import SynaDB, VectorStore

WAIT_S = 5.0
"""Seconds until a thread must have its name, or be gone."""


def threads() -> int:
    """Maintenance threads of this process, by the names that the system has of them."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            found += (task / "comm").read_text().startswith("synadb-maint")
        except OSError:
            continue  # It ended meanwhile.
    return found


def become(count: int) -> bool:
    """Whether there are so many threads; the system lists one that was joined for a moment more."""
    deadline = time.monotonic() + WAIT_S
    while threads() != count:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def checkpoint_of(path: Path) -> Path:
    return path.with_name(path.name + "-ckpt")


def test_thread_starts_when_needed_and_is_joined(path: Path) -> None:
    before = threads()
    with SynaDB(path, sync_on_write=False) as db:
        assert become(before)
        for n in range(1000):
            db.put("k", n)
        assert become(before + 1)
    assert become(before)


def test_handles_on_a_file_have_one_thread_and_the_last_joins_it(
    path: Path, tmp_path: Path
) -> None:
    before = threads()
    one, two = SynaDB(path, sync_on_write=False), SynaDB(path, sync_on_write=False)
    store = VectorStore(path, 2, sync_on_write=False)
    other = SynaDB(tmp_path / "other.db", sync_on_write=False)
    for n in range(1000):
        one.put("k", n)
        two.put("k", n)
        store.insert("k", [n, n])
        other.put("k", n)
    assert become(before + 2)
    for handle in (one, two, other):
        handle.close()
    assert become(before + 1)
    store.close()
    assert become(before)


@pytest.mark.parametrize("maintenance", ["inline", "off"])
def test_without_a_thread_there_is_none(path: Path, maintenance: str) -> None:
    before = threads()
    options = {"sync_on_write": False, "maintenance": maintenance}
    with SynaDB(path, **options) as db:  # type: ignore[arg-type]
        for n in range(1000):
            db.put("k", n)
        assert become(before)
    with VectorStore(path, 2, **options) as store:  # type: ignore[arg-type]
        for n in range(1000):
            store.insert("k", [n, n])
        assert become(before)
    with SynaDB(path) as db:
        assert len(db.history("k")) == 1000


@pytest.mark.parametrize("maintenance", ["thread", "inline"])
def test_checkpoint_is_written_when_one_is_due(path: Path, maintenance: str) -> None:
    with SynaDB(path, sync_on_write=False, maintenance=maintenance, checkpoint_bytes=100_000) as db:
        for _ in range(100):
            db.put("k", b"v" * 10_000)
        assert checkpoint_of(path).exists()


def test_off_writes_a_checkpoint_at_close_and_on_request_only(path: Path) -> None:
    options = {"sync_on_write": False, "maintenance": "off", "checkpoint_bytes": 100_000}
    with SynaDB(path, **options) as db:  # type: ignore[arg-type]
        for _ in range(200):
            db.put("k", b"v" * 10_000)
        assert not checkpoint_of(path).exists()
    assert checkpoint_of(path).exists()
    checkpoint_of(path).unlink()
    with SynaDB(path, **options) as db:  # type: ignore[arg-type]
        db.put("k", 1)
        db.checkpoint()
        assert checkpoint_of(path).exists()


def test_child_has_a_thread_of_its_own(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(1000):
            db.put("k", n)
        pid = os.fork()
        if pid == 0:
            counts = [threads()]
            for n in range(1000):
                db.put("child", n)
            counts.append(become(1))
            db.close()
            counts.append(become(0))
            os._exit(0 if counts == [0, True, True] else 1)
        assert os.waitpid(pid, 0)[1] == 0
