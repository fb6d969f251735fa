"""Handles: paths, options, readers, threads, reports, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import synadb
from synadb import DbConfig, SynaDB


def test_exception_leaves_a_with_block_and_closes(path: Path) -> None:
    with pytest.raises(LookupError), SynaDB(path) as db:
        raise LookupError
    assert db.closed


def test_close_is_repeatable(path: Path) -> None:
    db = SynaDB(path)
    db.close()
    db.close()
    assert db.closed


@pytest.mark.parametrize("form", [str, Path, os.fsencode])
def test_path_takes_every_form(path: Path, form: Any) -> None:
    with SynaDB(form(path)) as db:
        assert db.path == str(path)


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_bad_path_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"path|NUL"):
        SynaDB(name)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_not_created_against_the_will(path: Path) -> None:
    with pytest.raises(synadb.DatabaseMissingError):
        SynaDB(path, create=False)
    assert not path.exists()


def test_empty_file_is_a_new_database(path: Path) -> None:
    path.touch()
    with SynaDB(path) as db:
        assert len(db) == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"access": "none"}, ValueError),
        ({"maintenance": "sometimes"}, ValueError),
        ({"lock_timeout": -1.0}, ValueError),
        ({"lock_timeout": float("nan")}, ValueError),
        ({"checkpoint_bytes": -1}, OverflowError),
    ],
)
def test_bad_option_is_refused(path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        SynaDB(path, **options)
    assert not path.exists()


def test_configuration_compresses_texts(path: Path) -> None:
    text = "again and again " * 10_000
    with SynaDB(path, config=DbConfig(enable_compression=True, sync_on_write=False)) as db:
        db.put_text("k", text)
        assert (db.get_text("k"), db.stats()["log_bytes"] < 100_000) == (text, True)


def test_reader_sees_the_writer_after_refresh(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], access='read_only') as db:\n"
        "    print(db.keys(), flush=True)\n"
        "    sys.stdin.readline()\n"
        "    print(db.refresh(), db.keys(), flush=True)\n"
    )
    with SynaDB(path) as db:
        db.put("a", 1)
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            first = reader.stdout.readline()
            db.put("b", 2)
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert (first, reader.stdout.readline()) == ("['a']\n", "True ['a', 'b']\n")


def test_reader_does_not_write(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("a", 1)
    with SynaDB(path, access="read_only") as db, pytest.raises(PermissionError):
        db.put("b", 2)


def test_threads_share_a_handle(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:

        def write(name: str) -> None:
            for n in range(500):
                db.put_int(f"{name}/{n:03}", n)
                assert db.get_int(f"{name}/{n:03}") == n

        threads = [threading.Thread(target=write, args=(str(t),)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(db), db.get_many(db.keys("2/*"))) == (2000, list(range(500)))


def test_compact_keeps_the_newest_value_and_frees_the_rest(db: SynaDB) -> None:
    for n in range(2000):
        db.put_text("k", f"{n}" * 20)
    report = db.compact()
    assert (db.history("k"), report["bytes_after"] < report["bytes_before"]) == (
        ["1999" * 20],
        True,
    )


def test_checkpoint_changes_no_answer(path: Path) -> None:
    with SynaDB(path) as db:
        db.put_many({f"k{n}": n for n in range(100)})
        db.checkpoint()
        db.put("after", 1)
    with SynaDB(path) as db:
        assert (len(db), db["k7"], db["after"]) == (101, 7, 1)


def test_regression_key_put_again_after_a_checkpoint_of_its_delete(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
        db.delete("k")
        db.checkpoint()
        db.put("k", 2)
    with SynaDB(path) as db:
        assert db.history("k") == [2]


def test_regression_replay_without_the_checkpoint_that_left_a_delete_out(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
        db.delete("k")
        db.checkpoint()
    with SynaDB(path) as db:
        db.put("k", 2)
    for beside in path.parent.iterdir():
        if beside != path:
            beside.unlink()
    with SynaDB(path) as db:
        assert db.history("k") == [2]


def test_stats_count_keys_and_bytes(db: SynaDB, path: Path) -> None:
    db.put_many({"a": 1, "b": 2})
    stats = db.stats()
    assert (stats["tables"], stats["access"]) == ({"kv": 2}, "shared")
    assert 0 < stats["log_bytes"] <= stats["file_bytes"] == path.stat().st_size


def test_verify_finds_a_good_file_good(db: SynaDB) -> None:
    db.put("a", os.urandom(100_000))
    report = db.verify()
    assert (report["ok"], report["damage"]) == (True, [])


def test_verify_finds_a_flipped_byte(path: Path) -> None:
    data = os.urandom(1000)
    with SynaDB(path) as db:
        db.put("a", data)
    content = bytearray(path.read_bytes())
    place = content.index(data) + 500
    content[place] ^= 1
    path.write_bytes(content)
    with SynaDB(path, access="read_only") as db:
        assert not db.verify()["ok"]
        with pytest.raises(synadb.CorruptionError, match="offset"):
            db.get("a")


def test_interrupted_call_leaves_the_file_good(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "items = {f'k{n}': 'v' * 50 for n in range(300_000)}\n"
        "with synadb.SynaDB(sys.argv[1], sync_on_write=False) as db:\n"
        "    print('ready', flush=True)\n"
        "    while True:\n"
        "        db.put_many(items)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGINT)
        _, errors = writer.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    with SynaDB(path) as db:
        assert db.verify()["ok"]


def test_waiting_for_a_lock_can_be_interrupted(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "print('ready', flush=True)\n"
        "synadb.SynaDB(sys.argv[1], lock_timeout=600)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    with (
        SynaDB(path, access="exclusive"),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as waiter,
    ):
        assert waiter.stdout is not None
        waiter.stdout.readline()
        waiter.send_signal(signal.SIGINT)
        _, errors = waiter.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors


def test_lock_timeout_waits_for_the_other_writer(path: Path) -> None:
    code = "import sys, synadb\nwith synadb.SynaDB(sys.argv[1], lock_timeout=60) as db: db['b'] = 2"
    db = SynaDB(path, access="exclusive")
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as waiter:
        db.put("a", 1)
        db.close()
        assert waiter.wait(timeout=60) == 0
    with SynaDB(path) as db:
        assert db.keys() == ["a", "b"]


def test_regression_checkpoint_that_fails_does_not_fail_the_write(path: Path) -> None:
    in_its_place = path.with_name("a.db-ckpt")
    in_its_place.mkdir()
    with SynaDB(path, checkpoint_bytes=100) as db:
        for n in range(50):
            db.put(f"k{n:02}", n)
        with pytest.raises(
            synadb.DatabaseExistsError, match=r"a\.db-ckpt.* nothing is overwritten"
        ):
            db.checkpoint()
        in_its_place.rmdir()
        for n in range(50, 100):
            db.put(f"k{n:02}", n)
        assert in_its_place.is_file()
    with SynaDB(path) as db:
        assert (db.get_many(db), db.recovery()["replayed_from"] > 8192) == (list(range(100)), True)


def test_regression_refresh_of_a_removed_file_says_that_it_is_missing(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
    with SynaDB(path, access="read_only") as reader:
        path.unlink()
        with pytest.raises(synadb.DatabaseMissingError):
            reader.refresh()
        assert reader["k"] == 1


def test_readers_in_the_process_of_a_writer_move_by_refresh_each_on_its_own(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
        with SynaDB(path, access="read_only") as first:
            db.put("k", 2)
            with SynaDB(path, access="read_only") as second:
                db.put("k", 3)
                assert (first["k"], second["k"], db["k"]) == (1, 2, 3)
                assert second.refresh() is True
                assert (first["k"], second["k"]) == (1, 3)
                db.compact()
                assert (first.history("k"), second.history("k")) == ([1], [1, 2, 3])
                assert first.refresh() is True
                assert first.history("k") == [3]
            assert first.stats()["access"] == "read_only"
