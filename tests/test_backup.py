"""Backups of open databases, and checks of whole files: progress, cancelling, interrupts."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a copy goes."""
    return tmp_path / "copy.db"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_copy_is_the_state_at_a_commit_while_threads_write(db: SynaDB, target: Path) -> None:
    db.put("ballast", bytes(16 << 20))
    stop = threading.Event()

    def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with db.batch() as batch:
                batch.put(f"plus/{name}", number)
                batch.put(f"minus/{name}", -number)

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    db.backup(target)
    stop.set()
    for thread in threads:
        thread.join()
    with SynaDB(target) as copy:
        assert copy.verify()["ok"]
        for name in "01":
            plus = copy.history(f"plus/{name}")
            assert plus == list(range(1, len(plus) + 1))
            assert copy.history(f"minus/{name}") == [-value for value in plus]


def test_copy_of_a_store_answers_as_the_store(store: VectorStore, target: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    store.insert_batch([str(n) for n in range(100)], rows)
    assert store.backup(target)["bytes"] == store.stats()["log_bytes"]
    with VectorStore(target) as copy:
        assert copy.search(rows[7], k=5) == store.search(rows[7], k=5)


def test_progress_reaches_the_whole(db: SynaDB, target: Path) -> None:
    db.put("k", bytes(5_000_000))
    seen: list[tuple[int, int]] = []
    size = db.backup(target, progress=lambda *reached: seen.append(reached))["bytes"]
    assert seen == sorted(seen)
    assert seen[-1] == (size, size)


def test_progress_may_be_a_bar(db: SynaDB, target: Path) -> None:
    db.put("k", 1)
    db.backup(target, progress=True)
    assert db.verify(progress=True)["ok"]
    assert target.exists()


@pytest.mark.parametrize("wrong", [1, "yes"])
def test_progress_is_a_bool_or_a_function(db: SynaDB, target: Path, wrong: Any) -> None:
    with pytest.raises(TypeError, match="progress"):
        db.backup(target, progress=wrong)
    assert not target.exists()


def refuse(_done: int, _total: int) -> bool:
    return False


def fail(_done: int, _total: int) -> None:
    raise LookupError("enough")


@pytest.mark.parametrize("call", ["backup", "verify"])
def test_cancelled_call_leaves_nothing(path: Path, target: Path, call: str) -> None:
    with SynaDB(path) as db:
        db.put("k", bytes(4 << 20))
        before = names(path.parent)
        arguments = [target] if call == "backup" else []
        with pytest.raises(synadb.CancelledError, match="cancelled"):
            getattr(db, call)(*arguments, progress=refuse)
        with pytest.raises(LookupError, match="enough"):
            getattr(db, call)(*arguments, progress=fail)
        assert names(path.parent) == before


@pytest.mark.parametrize("answer", [None, 0, 0.0, "", (), True, np.True_], ids=repr)
def test_only_false_cancels(db: SynaDB, target: Path, answer: object) -> None:
    db.put("k", bytes(2 << 20))
    assert db.backup(target, progress=lambda *_: answer)["bytes"] > 2 << 20
    assert db.verify(progress=lambda *_: answer)["ok"]
    assert db.compact(progress=lambda *_: answer)["skipped"] == []


def test_false_of_numpy_cancels_too(db: SynaDB, target: Path) -> None:
    db.put("k", bytes(2 << 20))
    with pytest.raises(synadb.CancelledError):
        db.backup(target, progress=lambda done, _: np.int64(done) < 0)
    assert not target.exists()


def test_taken_path_is_refused_by_name(db: SynaDB, path: Path, target: Path) -> None:
    target.write_bytes(b"mine")
    for taken in (target, path):
        with pytest.raises(FileExistsError, match=taken.name) as caught:
            db.backup(taken)
        assert isinstance(caught.value, synadb.DatabaseExistsError)
    assert target.read_bytes() == b"mine"


def test_missing_folder_is_refused(db: SynaDB, tmp_path: Path) -> None:
    with pytest.raises(synadb.MissingDirectoryError):
        db.backup(tmp_path / "no" / "copy.db")


def test_closed_handle_makes_no_backup(path: Path, target: Path) -> None:
    with SynaDB(path) as db:
        pass
    with pytest.raises(synadb.DatabaseClosedError):
        db.backup(target)
    assert not target.exists()


def test_interrupted_backup_leaves_no_temporary_file(path: Path, target: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", bytes(32 << 20))
    code = (
        "import os, sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], access='read_only') as db:\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        db.backup(sys.argv[2])\n"
        "        os.unlink(sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(path), str(target)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as copier:
        assert copier.stdout is not None
        copier.stdout.readline()
        copier.send_signal(signal.SIGINT)
        _, errors = copier.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert not [name for name in names(path.parent) if "-tmp-" in name]
