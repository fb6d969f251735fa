"""A writer is killed before each single system call of opening, growth, checkpoint, compaction,
trim, recovery, backup and creation: whatever it had acknowledged is there, and nothing half done.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from system_calls import missing, run_killing

from synadb import SynaDB, VectorStore

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

WIDTH = 8
LARGE = random.Random(7).randbytes((4 << 20) + 5)


class Open:
    """A database and its vectors, without a thread, so that calls come in one order."""

    def __init__(self, path: Path) -> None:
        self.db = SynaDB(path, sync_on_write=False, maintenance="inline", checkpoint_bytes=1 << 40)
        self.store = VectorStore(self.db, WIDTH, metric="euclidean")

    def close(self) -> None:
        self.store.close()
        self.db.close()


def fill(path: Path) -> None:
    """Some of everything, with dead bytes for a compaction to leave out."""
    opened = Open(path)
    for n in range(200):
        opened.db.put(f"k{n % 40}", "x" * (n % 90))
    opened.db.put("large", LARGE)
    opened.db.delete("k7")
    opened.store.insert_batch([f"v{n}" for n in range(50)], np.eye(50, WIDTH, dtype=np.float32))
    opened.store.delete("v3")
    opened.close()


def leave_torn(path: Path) -> None:
    """What a power cut leaves: a tail that was never whole, and another's temporary file."""
    fill(path)
    tail = SynaDB(path).verify()["bytes"]
    with path.open("r+b") as file:
        file.truncate(tail + 65536)
        file.seek(tail + 8)
        file.write(b"half a frame " * 20)
    path.with_name(path.name + "-tmp-0123456789abcdef").write_bytes(bytes(5000))


def grow(opened: Open) -> None:
    with opened.db.batch() as batch:
        for n in range(20):
            batch.put(f"grown/{n}", bytes(5000))


def put_a_large_value(opened: Open) -> None:
    opened.db.put("large", LARGE[::-1])


def insert_many(opened: Open) -> None:
    rows = np.full((3000, WIDTH), 2, dtype=np.float32)
    opened.store.insert_batch([f"w{n}" for n in range(3000)], rows)


def close_after_a_change(opened: Open) -> None:
    opened.db.put("k0", "y" * 9000)
    opened.close()


def content(path: Path) -> tuple[dict[str, list[Any]], dict[str, bytes]]:
    """What the file holds, verified."""
    opened = Open(path)
    histories = {key: opened.db.history(key) for key in opened.db}
    vectors = {key: opened.store[key].tobytes() for key in opened.store}
    report = opened.db.verify()
    opened.close()
    assert report["ok"], report["damage"]
    # A copy's temporary file is removed by who opens the copy.
    assert not [left.name for left in path.parent.glob("a.db-*tmp-*")]
    return histories, vectors


ACTS: dict[str, tuple[Callable[[Path], None] | None, Callable[..., object], set[str]]] = {
    "create": (None, lambda path: Open(path), {"fallocate", "fdatasync", "pwrite64", "fsync"}),
    "open": (fill, lambda path: Open(path), {"fcntl"}),
    "recover": (leave_torn, lambda path: Open(path), {"fallocate", "fdatasync", "unlink"}),
    "grow": (fill, grow, {"fallocate", "pwrite64"}),
    "large": (fill, put_a_large_value, {"fallocate", "pwrite64"}),
    "insert": (fill, insert_many, {"fallocate", "pwrite64"}),
    "checkpoint": (fill, lambda o: o.db.checkpoint(), {"fdatasync", "rename", "fsync"}),
    "compact": (fill, lambda o: o.db.compact(), {"fallocate", "fdatasync", "rename", "fsync"}),
    "backup": (fill, lambda o: o.db.backup(o.db.path + ".copy"), {"fdatasync", "renameat2"}),
    "close": (fill, close_after_a_change, {"fdatasync", "ftruncate"}),
}
"""What is there before the act, the act, and calls that it must have been killed at."""
OPENS = ("create", "open", "recover")


@pytest.mark.parametrize("name", ACTS)
def test_killed_before_each_system_call(tmp_path: Path, name: str) -> None:
    prepare, act, wanted = ACTS[name]
    base = tmp_path / "base"
    base.mkdir()
    if prepare:
        prepare(base / "a.db")
    path = tmp_path / "run" / "a.db"

    def start() -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(base, path.parent)

    opening = (lambda: path) if name in OPENS else (lambda: Open(path))
    start()
    run_killing(act, None, opening)
    after = content(path)
    start()
    before = content(path)
    killed_at = Counter[str]()
    for at in count():
        start()
        child = run_killing(act, at, opening)
        if not child.was_killed:
            break
        killed_at[child.calls[-1]] += 1
        found = content(path)
        assert found in (before, after), f"killed before call {at}, {child.calls[-1]}"
        check_that_writing_goes_on(path)
    assert wanted <= {call.removesuffix("at") for call in killed_at} | set(killed_at)
    assert (before == after) == (name in {*OPENS, "checkpoint", "backup"}), "the act does something"


def check_that_writing_goes_on(path: Path) -> None:
    opened = Open(path)
    opened.db.put("afterwards", 1)
    opened.store.insert("afterwards", np.ones(WIDTH, dtype=np.float32))
    opened.close()
    opened = Open(path)
    assert opened.db["afterwards"] == 1
    assert opened.store.search(np.ones(WIDTH), k=1)[0].key == "afterwards"
    opened.close()
    copy = Path(str(path) + ".copy")
    if copy.exists():
        assert SynaDB(copy, access="read_only").verify()["ok"]
        copy.unlink()
