"""Defects 5, 9, 13, 15 and 16: other writers, batches, compaction and the file that it replaces."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from defect_files import WIDTH, cut, flip_stored, left_by_a_killed_writer, random_rows, run_python
from read_log import Log

import synadb
from synadb import SynaDB, VectorStore

OPEN_IN_ROUNDS = """
import sys, synadb
for line in sys.stdin:
    try:
        db = synadb.SynaDB(sys.argv[1], access="exclusive")
    except synadb.DatabaseLockedError:
        db = None
    print("open" if db else "locked", flush=True)
    sys.stdin.readline()
    if db:
        db.put(line.strip(), 1)
        db.close()
    print("done", flush=True)
"""


def test_defect_05_second_writing_process_is_refused_with_the_pid(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "try:\n    synadb.SynaDB(sys.argv[1], access='exclusive')\n"
        "except synadb.DatabaseLockedError as error:\n    print(error)\n"
    )
    with SynaDB(path) as db:
        db.put("k", 1)
        before = path.read_bytes()
        assert str(os.getpid()) in run_python(code, path)
        assert path.read_bytes() == before
        db.put("k", 2)
        assert db.history("k") == [1, 2]


def test_defect_05_one_of_several_openers_at_one_moment_gets_the_file(path: Path) -> None:
    command = [sys.executable, "-c", OPEN_IN_ROUNDS, str(path)]
    openers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]

    def tell(line: str) -> list[str]:
        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write(line)
            opener.stdin.flush()
        return [opener.stdout.readline() for opener in openers if opener.stdout is not None]

    for number in range(20):
        assert sorted(tell(f"k{number:02}\n")) == ["locked\n", "locked\n", "open\n"]
        tell("close\n")
    for opener in openers:
        opener.communicate()
    with SynaDB(path) as db:
        assert db.keys() == [f"k{number:02}" for number in range(20)]


def test_defect_09_compactions_in_one_folder_keep_their_files_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "a.db", tmp_path / "a.log"]
    models = [{f"{path.name}/{n}": n for n in range(3000)} for path in paths]
    start = threading.Barrier(2)

    def compact(path: Path, model: dict[str, int]) -> None:
        with SynaDB(path, sync_on_write=False) as db:
            db.put_many(model)
            start.wait()
            for _ in range(15):
                db.compact()

    threads = [
        threading.Thread(target=compact, args=pair) for pair in zip(paths, models, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path, model in zip(paths, models, strict=True):
        with SynaDB(path) as db:
            assert dict(zip(db, db.get_many(db), strict=True)) == model


def test_defect_09_files_of_others_beside_the_database_stay(path: Path) -> None:
    names = ["a.compact.tmp", "a.db-tmp-", "a.db-tmp-notes", "a.db-tmp-0123456789abcdef.txt"]
    names += ["a.db-tmp-0123456789abcdef", "a.db-ckpt-tmp-0123456789abcdef", "a.db-ckpt"]
    for name in names:
        path.with_name(name).write_text("mine")
    with SynaDB(path) as db:
        db.put("k", 1)
        db.compact()
    assert {name: path.with_name(name).read_text() for name in names} == dict.fromkeys(
        names, "mine"
    )


def test_regression_databases_with_names_of_files_beside_another_stay(path: Path) -> None:
    reserved = [path.with_name(name) for name in ("a.db-ckpt", "a.db-tmp-0123456789abcdef")]
    for place in reserved:
        with SynaDB(path.with_name("made")) as db:
            db.put("mine", 1)
        path.with_name("made").rename(place)
        with pytest.raises(synadb.InvalidPathError, match="beside a database"):
            SynaDB(place)
    with SynaDB(path) as db:
        db.put_bytes("k", b"1" * (2 << 20))
        with pytest.raises(synadb.DatabaseExistsError, match="nothing is overwritten"):
            db.checkpoint()
        db.compact()
        with pytest.raises(synadb.InvalidPathError, match="beside a database"):
            db.backup(path.with_name("b.db-ckpt"))
    with SynaDB(path) as db:
        assert len(db["k"]) == 2 << 20
    for place in reserved:
        place.rename(path.with_name("made"))
        with SynaDB(path.with_name("made")) as db:
            assert db["mine"] == 1


def test_defect_13_batch_with_an_exception_leaves_nothing(db: SynaDB, path: Path) -> None:
    db.put("kept", 1)
    before = path.read_bytes()

    def fail() -> None:
        with db.batch() as batch:
            batch.put("new", 2)
            batch.delete("kept")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert (db.keys(), db["kept"], path.read_bytes()) == (["kept"], 1, before)


def test_defect_13_batch_that_is_too_large_leaves_nothing(db: SynaDB, path: Path) -> None:
    db.put("kept", 1)
    before = path.read_bytes()
    batch = db.batch()
    batch.delete("kept")
    for n in range(40):
        batch.put(f"k{n}", bytes(2 << 20))
    with pytest.raises(synadb.BatchTooLargeError, match="67108864"):
        batch.commit()
    assert (db.keys(), path.read_bytes()) == (["kept"], before)


def test_defect_13_batch_is_whole_or_absent_after_a_cut_at_any_byte(path: Path) -> None:
    body = (
        "for n in range(12):\n"
        "    with db.batch() as batch:\n"
        "        for m in range(5):\n"
        "            batch.put(f'k{n}/{m}', 'v' * 30 * m)"
    )
    left_by_a_killed_writer(path, body)
    frames = Log(path).frames
    other = path.with_name("cut.db")
    for at in random.Random(1).sample(range(frames[0].offset + 8, frames[-1].end), 100):
        whole = cut(path, other, at, is_truncated=False)
        with SynaDB(other) as db:
            counts = [len(db.keys(prefix=f"k{n}/")) for n in range(12)]
        assert counts == [5] * whole + [0] * (12 - whole)


def test_defect_13_reader_sees_a_batch_whole(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], access='read_only') as db:\n"
        "    print('ready', flush=True)\n"
        "    while db.get('a') != 1999:\n"
        "        db.refresh()\n"
        "        a, b = db.get_many(['a', 'b'])\n"
        "        assert a == b, (a, b)\n"
    )
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({"a": -1, "b": -1})
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            for number in range(2000):
                with db.batch() as batch:
                    batch.put("a", number)
                    batch.put("b", number)
            assert reader.wait(timeout=60) == 0


@pytest.fixture
def damaged(path: Path) -> Path:
    """A file of ten values, the seventh of which is damaged."""
    with SynaDB(path) as db:
        for n in range(10):
            db.put(f"k{n}", f"value {n} " * 20)
    flip_stored(path, b"value 7 " * 20)
    return path


def test_defect_15_compaction_names_the_damaged_record_and_changes_nothing(damaged: Path) -> None:
    with SynaDB(damaged) as db:
        before = damaged.read_bytes()
        with pytest.raises(synadb.CorruptionError, match=r'offset \d+: key "k7"'):
            db.compact()
        assert damaged.read_bytes() == before
        assert db["k3"] == "value 3 " * 20
    assert [beside for beside in damaged.parent.iterdir() if "-tmp-" in beside.name] == []


def test_defect_15_rest_can_be_compacted(damaged: Path) -> None:
    with SynaDB(damaged) as db:
        (skipped,) = db.compact(skip_damaged=True)["skipped"]
        assert 'key "k7"' in skipped["reason"]
        assert db.verify()["ok"]
    with SynaDB(damaged) as db:
        rest = {f"k{n}": f"value {n} " * 20 for n in range(10) if n != 7}
        assert dict(zip(db, db.get_many(db), strict=True)) == rest


def test_defect_15_rest_can_be_compacted_where_the_key_is_damaged_too(path: Path) -> None:
    with SynaDB(path) as db, VectorStore(db, WIDTH) as store:
        store.insert_batch([f"vector {n}" for n in range(10)], random_rows(10))
        for n in range(10):
            db.put(f"number {n}", n)
        db.checkpoint()
    places = sorted([flip_stored(path, b"number 7"), flip_stored(path, b"vector 7")])
    with SynaDB(path) as db, VectorStore(db, WIDTH) as store:
        with pytest.raises(synadb.CorruptionError, match=r"offset \d+"):
            db.compact()
        skipped = db.compact(skip_damaged=True)["skipped"]
        offsets = sorted(place["offset"] for place in skipped)
        assert all(0 <= place - at < 100 for at, place in zip(offsets, places, strict=True))
        assert (db.keys(prefix="number"), store.keys()) == (
            [f"number {n}" for n in range(10) if n != 7],
            [f"vector {n}" for n in range(10) if n != 7],
        )
        assert db.verify()["ok"]


def test_defect_16_compact_keeps_mode_and_handle(path: Path) -> None:
    with SynaDB(path) as db:
        path.chmod(0o600)
        for value in range(50):
            db.put_int("n", value)
        db.compact()
        db.put_int("after", 1)
        assert (path.stat().st_mode & 0o777, db.get_int("n"), db.get_int("after")) == (0o600, 49, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_defect_16_compact_keeps_the_owner(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("n", 1)
        os.chown(path, 12_345, 23_456)
        db.compact()
        assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)


def test_defect_16_compact_keeps_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    with SynaDB(path) as db:
        db.put_int("n", 1)
    link.symlink_to(path)
    with SynaDB(link) as db:
        db.compact()
        assert db.get_int("n") == 1
    assert link.is_symlink()


KILLED_IN_COMPACTION = """
import os, sys, threading, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
db.put_many({f"k{n}": n for n in range(50_000)})

def compact():
    while True:
        db.compact()

threading.Thread(target=compact, daemon=True).start()
folder = os.path.dirname(sys.argv[1])
while not any("-tmp-" in name for name in os.listdir(folder)):
    pass
os._exit(0)
"""


def test_defect_16_next_open_removes_what_a_killed_compaction_left(path: Path) -> None:
    def left() -> list[str]:
        return [beside.name for beside in path.parent.iterdir() if "-tmp-" in beside.name]

    for _ in range(20):
        run_python(KILLED_IN_COMPACTION, path)
        if left():
            break
    assert left()
    with SynaDB(path) as db:
        assert left() == []
        assert (len(db), db["k49999"], db.verify()["ok"]) == (50_000, 49_999, True)
