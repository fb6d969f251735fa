"""Defects 1 to 4, 12 and 22: torn ends, damage, foreign files, sizes that lie, the report."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defect_files import (
    WIDTH,
    cut,
    flip,
    flip_stored,
    left_by_a_killed_writer,
    random_rows,
    run_python,
)
from log_encoding import crc32c
from read_log import FRAMES_START, Log

import synadb
from synadb import DbConfig, SynaDB, VectorStore

FIFTY_PUTS = "for n in range(50):\n    db.put(f'k{n:02}', n)"
KEY_AND_OFFSET = r"offset \d+, key \"{}\""


@pytest.fixture
def killed(path: Path) -> Path:
    """A file of fifty unsynced commits, one key each, whose writer was killed."""
    left_by_a_killed_writer(path, FIFTY_PUTS)
    return path


@pytest.mark.parametrize("is_truncated", [False, True], ids=["zeroed", "truncated"])
def test_defect_01_later_writes_survive_a_cut_at_any_byte(killed: Path, is_truncated: bool) -> None:
    frames = Log(killed).frames
    other = killed.with_name("cut.db")
    first, last = frames[0].offset + 8, frames[-1].end
    for at in random.Random(1).sample(range(first, last), 100):
        whole = [f"k{n:02}" for n in range(cut(killed, other, at, is_truncated))]
        with SynaDB(other) as db:
            assert db.keys() == whole
            for name in ("later/1", "later/2", "later/3"):
                db.put(name, 1)
        with SynaDB(other) as db:
            assert db.keys() == [*whole, "later/1", "later/2", "later/3"]


def test_defect_01_what_was_cut_off_never_comes_back(killed: Path) -> None:
    flip(killed, Log(killed).frames[20].offset + 9)
    expected = [f"k{n:02}" for n in range(20)]
    for later in range(60):
        with SynaDB(killed, sync_on_write=False) as db:
            assert db.keys() == expected
            db.put(f"later/{later:02}", later)
        expected.append(f"later/{later:02}")


LONG_TEXT = "some words and " * 20
NOISE = random.Random(2).randbytes(48)
STORED: dict[str, tuple[Any, bytes]] = {
    "float": (0.7310585786300049, struct.pack("<d", 0.7310585786300049)),
    "int": (-7_310_585_786, struct.pack("<q", -7_310_585_786)),
    "text": ("one short text", b"one short text"),
    "long text": (LONG_TEXT, LONG_TEXT.encode()),
    "bytes": (NOISE * 8, NOISE * 8),
    "extent": (NOISE * (5 << 20 >> 4), NOISE * (5 << 20 >> 4)),
    "vector": (random_rows(1)[0], random_rows(1).tobytes()),
}
READS = ["get", "history", "get_many", "getitem"]


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("kind", STORED)
def test_defect_02_every_read_of_a_flipped_value_raises(path: Path, kind: str, how: str) -> None:
    value, stored = STORED[kind]
    with SynaDB(path) as db:
        db.put("good", 1)
        db.put("bad", value)
        flip_stored(path, stored)
        read = {
            "get": lambda: db.get("bad"),
            "history": lambda: db.history("bad"),
            "get_many": lambda: db.get_many(["good", "bad"]),
            "getitem": lambda: db["bad"],
        }[how]
        for _ in range(2):
            with pytest.raises(synadb.CorruptionError, match=KEY_AND_OFFSET.format("bad")):
                read()
        assert db["good"] == 1


def test_defect_02_read_of_a_flipped_compressed_value_raises(path: Path) -> None:
    config = DbConfig(enable_compression=True)
    with SynaDB(path, config=config) as db:
        db.put("bad", NOISE + bytes(10_000))
        assert db.stats()["log_bytes"] < 10_000
        flip_stored(path, NOISE)
        with pytest.raises(synadb.CorruptionError, match=KEY_AND_OFFSET.format("bad")):
            db.get_bytes("bad")


@pytest.mark.parametrize("count", [3, 3000])
def test_defect_02_tensor_of_a_flipped_run_raises(path: Path, count: int) -> None:
    run = np.random.default_rng(1).standard_normal(count)
    with SynaDB(path) as db:
        db.append_many("bad", run)
        flip_stored(path, run.tobytes())
        with pytest.raises(synadb.CorruptionError, match=KEY_AND_OFFSET.format("bad")):
            db.get_history_tensor("bad")


@pytest.mark.parametrize("how", ["get", "search"])
def test_defect_02_read_of_a_flipped_row_raises(path: Path, how: str) -> None:
    row = random_rows(1)[0]
    with VectorStore(path, WIDTH) as store:
        store.insert("bad", row)
        flip_stored(path, row.tobytes())
        read = {"get": lambda: store.get("bad"), "search": lambda: store.search(row, k=1)}[how]
        with pytest.raises(synadb.CorruptionError, match=KEY_AND_OFFSET.format("bad")):
            read()


class Reference:
    """A file of 200 records, and what it must answer."""

    def __init__(self, path: Path, has_checkpoint: bool) -> None:
        self.path, self.checkpoint = path, path.with_name(path.name + "-ckpt")
        self.histories: dict[str, list[Any]] = {}
        self.rows = {f"v{n}": row for n, row in enumerate(random_rows(10))}
        dice = random.Random(3)
        with SynaDB(path, sync_on_write=False) as db, VectorStore(db, WIDTH) as store:
            for n in range(188):
                key, value = f"k{n % 60}", [n, n / 2, f"text {n} " * dice.choice([1, 20])][n % 3]
                db.put(key, value)
                self.histories.setdefault(key, []).append(value)
            store.insert_batch(list(self.rows), random_rows(10))
            if has_checkpoint:
                db.checkpoint()
            db.put("last", "value")
        self.histories["last"] = ["value"]
        self.used = Log(path).tail
        self.good = {p: p.read_bytes() for p in (path, self.checkpoint) if p.exists()}

    def restore(self) -> None:
        """Make the files as good as new."""
        for file, content in self.good.items():
            file.write_bytes(content)

    def answers_or_raises(self) -> bool:
        """Whether every answer is right; false where something raised, by offset."""
        try:
            with SynaDB(self.path) as db, VectorStore(db, WIDTH) as store:
                return self._answers(db, store)
        except synadb.CorruptionError as error:
            return names_the_place(error, "")

    def _answers(self, db: SynaDB, store: VectorStore) -> bool:
        reads = [
            is_right(db.keys, sorted(self.histories)),
            is_right(store.keys, sorted(self.rows)),
        ]
        assert (len(db), len(store)) == (len(self.histories), len(self.rows))
        for key, history in self.histories.items():
            reads.append(is_right(lambda key=key: db.get(key), history[-1], key))
            reads.append(is_right(lambda key=key: db.history(key), history, key))
            reads.append(is_right(lambda key=key: key in db, True, key))
        for key, row in self.rows.items():
            reads.append(is_right(lambda key=key: store[key].tolist(), row.tolist(), key))
            reads.append(is_right(lambda key=key: key in store, True, key))
        return all(reads)


def is_right(read: Callable[[], Any], expected: Any, key: str = "") -> bool:
    """False where the read raises, by key and offset; a wrong answer fails the test."""
    try:
        found = read()
    except synadb.CorruptionError as error:
        return names_the_place(error, key)
    assert found == expected
    return True


def names_the_place(error: synadb.CorruptionError, key: str) -> bool:
    """False; an error that does not name its key and offset fails the test."""
    assert re.search(r"offset \d+", str(error))
    assert not key or f'"{key}"' in str(error)
    return False


@pytest.mark.parametrize("has_checkpoint", [False, True], ids=["replayed", "checkpoint"])
def test_defect_03_no_flipped_bit_changes_an_answer(path: Path, has_checkpoint: bool) -> None:
    reference = Reference(path, has_checkpoint)
    dice = random.Random(4)
    harmed = 0
    for _ in range(400):
        reference.restore()
        flip(path, dice.randrange(reference.used), dice.randrange(8))
        harmed += not reference.answers_or_raises()
    assert harmed > 100


def test_defect_03_no_flipped_bit_of_the_checkpoint_changes_an_answer(path: Path) -> None:
    reference = Reference(path, has_checkpoint=True)
    dice = random.Random(5)
    for _ in range(200):
        reference.restore()
        flip(reference.checkpoint, dice.randrange(reference.checkpoint.stat().st_size))
        assert reference.answers_or_raises()


@pytest.mark.parametrize("sync_on_write", [True, None], ids=["killed", "closed"])
def test_defect_03_damage_with_records_behind_it_fails_the_open_by_offset(
    path: Path, sync_on_write: bool | None
) -> None:
    left_by_a_killed_writer(path, FIFTY_PUTS, sync_on_write=True)
    if sync_on_write is None:
        SynaDB(path).close()
    content = path.read_bytes()
    for frame in Log(path).frames[:-1]:
        damaged = bytearray(content)
        damaged[frame.offset + 30] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(synadb.CorruptionError, match=f"offset {frame.offset}:"):
            SynaDB(path)
        assert path.read_bytes() == damaged


def test_defect_04_file_of_random_bytes_is_refused_unchanged(path: Path) -> None:
    noise = random_rows(200).tobytes()
    path.write_bytes(noise)
    with pytest.raises(synadb.NotADatabaseError):
        SynaDB(path)
    assert path.read_bytes() == noise


def test_defect_12_value_above_the_limit_is_refused_before_writing(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
        before = path.read_bytes()
        for write in (db.put_bytes, db.put):
            with pytest.raises(synadb.ValueTooLargeError, match=r"1073741825 bytes.*1073741824"):
                write("k", bytes((1 << 30) + 1))
        assert path.read_bytes() == before
        assert db["k"] == 1


def forge_the_last_frame(path: Path, forge: Any) -> None:
    """Change the front of a file's last frame, or a payload, and make its checksums fit again."""
    log = Log(path)
    frame = log.frames[-1]
    (record,) = log.records(frame)
    data = bytearray(log.data)
    payload_at = record.position + record.large[1]
    forge(data, payload_at)
    payload = data[payload_at : payload_at + record.payload_len]
    crc_at = data.index(record.large[0].to_bytes(4, "little"), record.position)
    data[crc_at : crc_at + 4] = crc32c(bytes(payload)).to_bytes(4, "little")
    place = struct.pack("<QI", frame.offset, frame.length)
    front = bytes(data[frame.offset + 8 : frame.offset + frame.front_len])
    crc = crc32c(place + front, log.seed)
    data[frame.offset + 4 : frame.offset + 8] = crc.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize("size", [0, 1, 9_999, 10_001, 1 << 30, (1 << 32) - 1])
def test_defect_12_size_that_lies_is_not_allocated_for(path: Path, size: int) -> None:
    with SynaDB(path, config=DbConfig(enable_compression=True)) as db:
        db.put("other", 1)
        db.put_bytes("k", NOISE + bytes(10_000 - len(NOISE)))
    forge_the_last_frame(
        path, lambda data, at: data.__setitem__(slice(at, at + 4), size.to_bytes(4, "little"))
    )
    code = (
        "import resource, sys, synadb\n"
        "limit = 2 << 30\n"
        "with synadb.SynaDB(sys.argv[1]) as db:\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    try:\n        db.get('k')\n"
        "    except synadb.CorruptionError as error:\n        print(error)\n"
        "    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    assert after - before < 64 << 10\n"
    )
    assert 'key "k"' in run_python(code, path)


def test_defect_22_recovery_reports_what_it_kept_and_what_it_dropped(killed: Path) -> None:
    frames = Log(killed).frames
    flip(killed, frames[20].offset + 9)
    end = len(killed.read_bytes().rstrip(b"\0"))
    with SynaDB(killed) as db:
        report = db.recovery()
    assert report == {
        "tail": frames[20].offset,
        "replayed_from": FRAMES_START,
        "commits_replayed": 20,
        "torn": True,
        "commits_dropped": 29,
        "bytes_dropped": end - frames[20].offset,
        "dropped_from": frames[20].offset,
        "dropped_to": end,
        "needs_recovery": False,
    }


def test_defect_22_recovery_prints_nothing(killed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flip(killed, Log(killed).frames[20].offset + 9)
    SynaDB(killed).close()
    assert capfd.readouterr() == ("", "")


def test_defect_22_recovery_of_a_good_file_reports_no_loss(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("k", 1)
    with SynaDB(path) as db:
        report = db.recovery()
    assert (report["torn"], report["commits_dropped"], report["bytes_dropped"]) == (False, 0, 0)


def test_defect_22_reader_reports_a_tear_and_leaves_it(killed: Path) -> None:
    flip(killed, Log(killed).frames[20].offset + 9)
    before = killed.read_bytes()
    with SynaDB(killed, access="read_only") as db:
        report = db.recovery()
        assert (len(db), report["torn"], report["needs_recovery"]) == (20, True, True)
    assert killed.read_bytes() == before
