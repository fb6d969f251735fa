"""Compaction while readers and writers go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def fill(db: SynaDB, keys: int = 2000) -> None:
    for version in range(3):
        db.put_many({f"key{n}": n * version for n in range(keys)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_history_is_kept_where_that_is_asked_for(db: SynaDB) -> None:
    db.append_many("loss", np.arange(1000.0))
    for value in ("a", 1, None):
        db.put("k", value)
    db.put("gone", 1)
    db.delete("gone")
    db.compact(keep_history=True)
    assert db.history("k") == ["a", 1, None]
    assert db.get_history_tensor("loss").tolist() == list(range(1000))
    assert "gone" not in db
    db.compact()
    assert db.history("k") == [None]
    assert db.get_history_tensor("loss").tolist() == [999.0]


def test_versions_and_sequence_go_on(db: SynaDB) -> None:
    db.put("k", 1)
    db.put("other", 2)
    before = (db.sequence, db.version("k"))
    for keep in (False, True):
        db.compact(keep_history=keep)
        assert (db.sequence, db.version("k")) == before
    with db.batch(expect=before[0]) as batch:
        batch.put("k", 3)
    assert db.sequence == before[0] + 1


def test_commits_go_on_meanwhile(db: SynaDB) -> None:
    fill(db)
    stop = threading.Event()
    counts = [0, 0]

    def write(number: int) -> None:
        while not stop.is_set():
            counts[number] += 1
            db.put(f"count{number}", counts[number])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        db.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert [db.get(f"count{n}") for n in range(2)] == counts
    assert len(db) == 2002
    assert db.get("key7") == 14


def test_progress_reaches_the_whole(db: SynaDB) -> None:
    fill(db)
    seen: list[tuple[int, int]] = []
    db.compact(progress=lambda *reached: seen.append(reached))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_progress_may_write(db: SynaDB) -> None:
    fill(db)
    db.compact(progress=lambda done, _: db.put("told", done))
    assert db.history("told")


def test_cancelled_compaction_changes_nothing(db: SynaDB, path: Path) -> None:
    fill(db)
    before = (path.read_bytes(), names(path.parent))
    with pytest.raises(synadb.CancelledError):
        db.compact(progress=lambda *_: False)
    with pytest.raises(ZeroDivisionError):
        db.compact(progress=lambda *_: 1 // 0)
    assert (path.read_bytes(), names(path.parent)) == before
    assert db.history("key5") == [0, 5, 10]


def test_interrupted_compaction_changes_nothing(db: SynaDB, path: Path) -> None:
    fill(db)
    before = names(path.parent)
    with pytest.raises(KeyboardInterrupt) as caught:
        db.compact(progress=lambda *_: signal.raise_signal(signal.SIGINT))
    assert not hasattr(caught.value, "__notes__")
    assert names(path.parent) == before
    assert db.history("key5") == [0, 5, 10]


class Late(KeyboardInterrupt):
    """What the handler of a signal raises here."""


def test_interrupt_that_comes_too_late_says_that_the_call_is_done(db: SynaDB) -> None:
    """Behind its last look at the signals the compaction waits here for a transaction to end."""
    fill(db)
    whole, heard, begun = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        with db.transaction():
            begun.set()
            assert whole.wait(60)
            signal.raise_signal(signal.SIGINT)
            assert heard.wait(60)

    def handle(*_: object) -> None:
        heard.set()
        raise Late

    holder = threading.Thread(target=hold)
    before = signal.signal(signal.SIGINT, handle)
    try:
        holder.start()
        assert begun.wait(60)
        with pytest.raises(Late) as caught, SynaDB(db.path, lock_timeout=60) as patient:
            patient.compact(progress=lambda done, total: whole.set() if done == total else None)
    finally:
        signal.signal(signal.SIGINT, before)
        holder.join()
    assert db.history("key5") == [10]
    (note,) = caught.value.__notes__
    assert note.startswith("synadb: it came too late, the call is done: {'bytes_before': ")


def test_arrays_from_before_stay_valid(path: Path) -> None:
    with VectorStore(path, dimensions=8) as store, SynaDB(path) as db:
        rows = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        store.insert_batch([str(n) for n in range(500)], rows)
        store.insert_batch([str(n) for n in range(100)], rows[:100] + 1)
        db.append_many("loss", np.arange(5000.0))
        history = db.get_history_tensor("loss")
        vector = store.get("7")
        hits = store.search(rows[200], k=3)
        before = (history.tolist(), vector.tolist())
        report = store.compact()
        assert report["bytes_after"] < report["bytes_before"]
        assert (history.tolist(), vector.tolist()) == before
        assert store.search(rows[200], k=3) == hits
        assert store.get("7").tolist() == (rows[7] + 1).tolist()
        del store, db


WRITER = """
import select, sys
from synadb import SynaDB
with SynaDB(sys.argv[1], sync_on_write=False) as db:
    print("open", flush=True)
    n = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        for n in range(n + 1, n + 1_001):
            db.put("count", n)
            assert db.get("count") == n
    print(n, flush=True)
"""


def test_writer_in_another_process_goes_on_in_the_new_file(db: SynaDB, path: Path) -> None:
    fill(db)
    command = [sys.executable, "-c", WRITER, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        compactions = 0
        while compactions < 6 or (db.get("count") or 0) < 20_000:
            db.compact(keep_history=compactions % 2 == 0)
            compactions += 1
        child.stdin.close()
        written = int(child.stdout.readline())
    assert child.returncode == 0
    assert db.get("count") == written
    assert db.verify()["ok"]


def test_compaction_waits_for_another_and_says_so(path: Path) -> None:
    with SynaDB(path) as db, SynaDB(path, lock_timeout=0) as other:
        fill(db)

        def compact_too(*_: int) -> None:
            with pytest.raises(synadb.DatabaseLockedError, match="being compacted already"):
                other.compact()

        db.compact(progress=compact_too)


def test_histories_of_live_keys_stay_where_only_those_are_kept(db: SynaDB, path: Path) -> None:
    db.append_many("loss", np.arange(1000.0))
    db.put("secret", "never to be seen again")
    db.delete("secret")
    db.put("k", "of another life")
    db.delete("k")
    db.put("k", 1)
    db.put("k", 2)
    report = db.compact(keep_history="live")
    assert report["bytes_after"] < report["bytes_before"]
    assert db.history("k") == [1, 2]
    assert db.get_history_tensor("loss").tolist() == list(range(1000))
    left = path.read_bytes()
    assert b"never to be seen" not in left
    assert b"of another life" not in left


def test_options_are_checked(db: SynaDB) -> None:
    with pytest.raises(TypeError, match="skip_damaged"):
        db.compact(skip_damaged=1)
    for wrong in (1, "all", b"live"):
        with pytest.raises(
            synadb.InvalidArgumentError, match=r"keep_history.*'live' is wanted, got"
        ):
            db.compact(keep_history=wrong)


def churn(db: SynaDB, rounds: int) -> None:
    """Writes and deletes; what stays is small."""
    for n in range(rounds):
        db.put_many({f"key{k}": bytes(4000) for k in range(100)})
        for k in range(100):
            db.delete(f"key{k}")
        db.put("round", n)


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


@pytest.mark.parametrize("maintenance", ["thread", "inline"])
def test_dead_log_is_compacted_by_itself(path: Path, maintenance: str) -> None:
    with SynaDB(path, sync_on_write=False, maintenance=maintenance, auto_compact=0.5) as db:
        churn(db, 60)
        assert eventually(lambda: db.stats()["generation"] > 0)
        churn(db, 60)
        # 48 MB were written in all.
        assert eventually(lambda: db.stats()["log_bytes"] < 12 << 20)
        assert db.history("round") == [*range(60), *range(60)]
        assert db.keys() == ["round"]


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_store_on_a_database_is_compacted_as_the_database_was_told(
    path: Path, share: float
) -> None:
    rows = np.ones((200, 1024), dtype=np.float32)
    options = {"sync_on_write": False, "maintenance": "inline", "auto_compact": share}
    with VectorStore(SynaDB(path, **options), 1024) as store:  # type: ignore[arg-type]
        for _ in range(40):
            for n, row in enumerate(rows):
                store.insert(str(n), row)
        assert store.stats()["generation"] > 0
        assert len(store) == 200


def test_log_of_histories_stays_as_it_is_unless_told_otherwise(path: Path) -> None:
    options = {"sync_on_write": False, "maintenance": "inline", "auto_compact": 0.5}
    with SynaDB(path, **options) as db:  # type: ignore[arg-type]
        for n in range(2000):
            db.put("k", bytes(4000) + bytes([n % 256]))
        assert db.stats()["generation"] == 0
        assert len(db.history("k")) == 2000
    with SynaDB(path, auto_compact_history=False, **options) as db:  # type: ignore[arg-type]
        db.put("k", 1)
        assert db.stats()["generation"] == 1
        assert db.history("k") == [1]


@pytest.mark.parametrize("options", [{"maintenance": "off"}, {"access": "read_only"}], ids=str)
def test_wish_that_nobody_would_fulfil_is_refused(path: Path, options: dict[str, str]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(
        synadb.InvalidArgumentError, match=f"auto_compact: {name} is '{value}', so nothing would"
    ):
        SynaDB(path, auto_compact=0.1, **options)  # type: ignore[arg-type]
    assert not path.exists()


def test_wish_is_refused_beside_a_first_handle_with_maintenance_off(path: Path) -> None:
    with SynaDB(path, sync_on_write=False, maintenance="off") as db:
        with pytest.raises(
            synadb.InvalidArgumentError, match="auto_compact: the first handle on the file has"
        ):
            SynaDB(path, auto_compact=0.1)
        assert db.stats()["handles"] == 1
        churn(db, 30)
        assert db.stats()["generation"] == 0


def test_deletes_and_small_values_bring_a_look(path: Path) -> None:
    """The log hardly grows by them, and yet most of it is dead."""
    options = {"sync_on_write": False, "maintenance": "inline", "auto_compact": 0.5}
    large = np.random.default_rng(1).bytes(40_000)
    for ending in (SynaDB.delete, lambda db, key: db.put(key, 1)):
        with SynaDB(path, auto_compact_history=False, **options) as db:  # type: ignore[arg-type]
            for n in range(1000):
                db.put(f"key{n}", large)
            # The next look by growth would come at 80 MB.
            before = db.stats()
            for n in range(1000):
                ending(db, f"key{n}")
            for n in range(40_000):
                db.put("end", n)
            after = db.stats()
            assert after["generation"] > before["generation"]
            assert after["log_bytes"] < 20 << 20


def test_wish_ends_with_its_handle(path: Path) -> None:
    with SynaDB(path, sync_on_write=False, maintenance="inline") as db:
        with SynaDB(path, auto_compact=0.5):
            pass
        churn(db, 30)
        assert db.stats()["generation"] == 0
        with SynaDB(path, auto_compact=0.5):
            db.put("k", 1)
            assert db.stats()["generation"] == 1
            with SynaDB(path, auto_compact=0.99):
                pass
            churn(db, 30)
            assert db.stats()["generation"] > 1


def test_inline_upkeep_waits_for_no_other_compaction(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        churn(db, 30)
        code = f"""
            import sys
            from synadb import SynaDB
            db = SynaDB({str(path)!r}, sync_on_write=False, auto_compact=0.1,
                        maintenance="inline", lock_timeout=60)
            print("ready", flush=True)
            sys.stdin.readline()
            db.put("k", 1)
            print(db.stats()["generation"], flush=True)
        """
        arguments = [sys.executable, "-c", textwrap.dedent(code)]
        told: list[str] = []
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:

            def report(_done: int, _of: int) -> None:
                if not told:
                    other.stdin.write("go\n")  # type: ignore[union-attr]
                    other.stdin.flush()  # type: ignore[union-attr]
                    told.append(other.stdout.readline())  # type: ignore[union-attr]

            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            db.compact(progress=report)
            # It had its answer while the compaction went on.
            assert told == ["0\n"]


def test_file_with_other_names_is_not_compacted(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        fill(db)
        other = path.with_name("other.db")
        other.hardlink_to(path)
        with pytest.raises(synadb.UnsupportedError, match="2 names"):
            db.compact()
        other.unlink()
        db.compact()
        assert len(db) == 2000


def test_file_that_another_one_replaced_is_not_compacted(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        fill(db)
        other = path.with_name("other.db")
        db.backup(other)
        other.replace(path)
        with pytest.raises(synadb.UnsupportedError, match="in whose place"):
            db.compact()


def test_what_killed_compactions_left_is_removed_by_the_next(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        fill(db)
        left = path.with_name(f"{path.name}-tmp-0123456789abcdef")
        content = bytearray(path.read_bytes())
        content[:] = bytes(len(content))
        left.write_bytes(content)
        note = path.with_name(f"{path.name}-tmp-notes")
        note.write_text("mine")
        db.compact()
        assert not left.exists()
        assert note.exists()


def test_close_ends_a_compaction_under_way(path: Path) -> None:
    for _ in range(20):
        with SynaDB(path, sync_on_write=False, auto_compact=0.01) as db:
            churn(db, 12)
        assert names(path.parent) in ([path.name], [path.name, f"{path.name}-ckpt"])
    with SynaDB(path) as db:
        assert db.keys() == ["round"]


def test_handle_travels_with_its_wish(path: Path) -> None:
    with SynaDB(path, auto_compact=0.25, auto_compact_history=False) as db:
        _, options = db.__getnewargs_ex__()
        assert (options["auto_compact"], options["auto_compact_history"]) == (0.25, False)
