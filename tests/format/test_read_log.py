"""Files that the engine wrote, read by the second reader of the format."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from log_encoding import crc32c, lz4_block
from read_log import DamageError, Log, read_identity

from synadb import CorruptionError, DbConfig, SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable

READER = Path(__file__).with_name("read_log.py")
TEXT = "words that come again and again, " * 40


def plain(value: Any) -> Any:
    """A value of the engine as the reader has it."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def agree(log: Log, db: SynaDB) -> None:
    """The reader found what the engine says."""
    assert log.state() == {key: plain(db.get(key)) for key in db.keys()}  # noqa: SIM118
    expected = {key: [plain(value) for value in db.history(key)] for key in db.keys()}  # noqa: SIM118
    assert log.histories() == expected
    assert db.verify()["ok"]


def agree_after_close(path: Path, write: Callable[[SynaDB], object], **options: Any) -> Log:
    """Writes, closes, and compares reader and engine."""
    with SynaDB(path, **options) as db:
        write(db)
    log = Log(path)
    assert not log.torn
    assert not log.identity.damage
    with SynaDB(path, access="read_only") as db:
        agree(log, db)
    return log


def write_everything(db: SynaDB) -> None:
    db.put_null("null")
    db.put_float("float", -0.5)
    db.put_float("float", 1e300)
    db.put_int("int", -(2**63))
    db.put_text("text", "")
    db.put_text("text", "x" * 64)
    db.put_text("text", "y" * 65)
    db.put_text("k" * 65_535, "a long key")
    db.put_bytes("bytes", bytes(range(256)) * 3)
    db.put_vector("vector", [0.5, -2.0, 1e-30])
    db.put("changing", 1)
    db.put("changing", "one")
    db.put("gone", 1)
    db.delete("gone")
    db.put("back", 1)
    db.delete("back")
    db.put("back", 2)


def test_values_of_all_types(path: Path) -> None:
    log = agree_after_close(path, write_everything)
    assert log.histories()["back"] == [2]
    assert log.sequence == len(log.frames)


def test_batches_and_runs(path: Path) -> None:
    def write(db: SynaDB) -> None:
        db.put("a", 0)
        with db.batch() as batch:
            batch.put("a", 1)
            batch.put("b", TEXT)
            batch.delete("a")
            batch.put("a", 2)
            batch.append_many("run", np.arange(500.0))
            batch.put("b", "short")
        db.append_many("run", np.linspace(0, 1, 3000))
        db.put_float("run", 7.0)
        db.put_many({f"many/{n}": n for n in range(2000)})

    log = agree_after_close(path, write)
    assert len(log.histories()["run"]) == 3501


def test_compressed_values(path: Path) -> None:
    noise = random.Random(1).randbytes(1000)

    def write(db: SynaDB) -> None:
        db.put_text("text", TEXT)
        db.put_bytes("bytes", TEXT.encode() * 50)
        db.put_bytes("noise", noise)
        db.put_bytes("mixed", noise + bytes(5000) + noise)

    size = len(agree_after_close(path, write, config=DbConfig(enable_compression=True)).data)
    assert size < 20_000


def test_values_in_extents(path: Path) -> None:
    large = random.Random(2).randbytes((4 << 20) + 12_345)
    log = agree_after_close(path, lambda db: db.put_many({"large": large, "small": 1}))
    assert log.state()["large"] == large
    with SynaDB(path) as db:
        db.compact()
    assert Log(path).state() == log.state()


@pytest.mark.parametrize("width", [3, 16, 100])
def test_vectors(path: Path, width: int) -> None:
    rows = np.random.default_rng(5).standard_normal((700, width)).astype(np.float32)
    keys = [f"k{n}" for n in range(700)]
    with VectorStore(path, width, metric="euclidean") as store:
        for key, row in zip(keys[:40], rows, strict=False):
            store.insert(key, row)
        store.insert_batch(keys[40:], rows[40:])
        store.update("k5", rows[0])
        store.delete("k6")
        expected = {key: plain(store[key]) for key in store.keys()}  # noqa: SIM118
    with SynaDB(path) as db:
        db.put("beside", 1)
    assert Log(path).state("vector:vec/") == expected
    with SynaDB(path) as db:
        db.compact()
    log = Log(path)
    assert log.state("vector:vec/") == expected
    assert log.state() == {"beside": 1}


def test_compaction(path: Path) -> None:
    agree_after_close(path, write_everything)
    log = agree_after_close(path, lambda db: db.compact())
    assert (log.identity.generation, log.identity.horizon) == (1, log.sequence)
    assert all(len(values) == 1 for values in log.histories().values())
    horizon = log.sequence
    log = agree_after_close(path, lambda db: db.put("later", 1))
    assert log.sequence == horizon + 1


def test_random_operations(path: Path) -> None:
    dice = random.Random(3)

    def write(db: SynaDB) -> None:
        for _ in range(300):
            key = f"k{dice.randrange(20)}"
            value = dice.choice([1, 0.5, "t" * dice.randrange(200), b"b" * dice.randrange(200)])
            dice.choice([db.put, db.put, lambda key, _: db.delete(key)])(key, value)

    agree_after_close(path, write, sync_on_write=False)
    agree_after_close(path, lambda db: (write(db), db.compact(), write(db)))


def test_key_that_was_deleted_before_a_checkpoint_comes_back(path: Path) -> None:
    def delete(db: SynaDB) -> None:
        db.put("a", 1)
        db.delete("a")
        db.checkpoint()

    agree_after_close(path, delete)
    log = agree_after_close(path, lambda db: db.put("a", 2))
    path.with_name(path.name + "-ckpt").unlink()
    with SynaDB(path) as db:
        agree(log, db)


KILLED = """
import os, sys, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
for n in range(50):
    db.put(f"k{n % 7}", n)
os._exit(0)
"""


def test_file_of_a_killed_writer(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=True)
    log = Log(path)
    assert not log.torn
    assert log.sequence == 50
    assert log.state() == {f"k{n % 7}": n for n in range(43, 50)}
    with SynaDB(path) as db:
        agree(log, db)


def test_cuts_of_a_killed_writers_file_agree_with_the_engine(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=True)
    log = Log(path)
    other = path.with_name("cut.db")
    for cut in random.Random(4).sample(range(log.frames[3].offset, log.tail), 40):
        shutil.copy(path, other)
        os.truncate(other, cut)
        read = Log(other)
        with SynaDB(other) as db:
            assert db.recovery()["torn"] == read.torn
            agree(read, db)


def engine_finds_damage(path: Path) -> bool:
    """The engine refuses the file, or reports the damage when asked."""
    try:
        with SynaDB(path, access="read_only") as db:
            return not db.verify()["ok"]
    except CorruptionError:
        return True


def test_every_byte_of_the_log_is_vouched_for(path: Path) -> None:
    with SynaDB(path) as db:
        db.put_text("a", TEXT)
        with db.batch() as batch:
            batch.put("b", 1)
            batch.put("c", "c" * 100)
    whole = path.read_bytes()
    for offset in range(8192, Log(path).tail):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DamageError):
            Log(path)
        assert engine_finds_damage(path), offset


def test_cut_of_a_closed_file_is_corruption_for_both(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("a", 1)
        db.put("b", 2)
    whole = path.read_bytes()
    for cut in range(8192, Log(path).tail, 8):
        path.write_bytes(whole[:cut])
        with pytest.raises(DamageError):
            Log(path)
        with pytest.raises(CorruptionError):
            SynaDB(path)
        assert path.read_bytes() == whole[:cut], "nothing was changed"


def test_either_copy_of_the_identity_is_enough(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("a", 1)
    page = bytearray(path.read_bytes()[:4096])
    good = read_identity(bytes(page))
    page[30] ^= 1
    damaged = read_identity(bytes(page))
    assert damaged.damage == (0,)
    assert damaged.database_id == good.database_id
    page[2048 + 30] ^= 1
    with pytest.raises(DamageError):
        read_identity(bytes(page))


def test_command_prints_json(path: Path) -> None:
    with SynaDB(path) as db:
        write_everything(db)
    command = [sys.executable, READER, path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["tables"]["kv"]["histories"]["changing"] == [1, "one"]
    path.write_bytes(b"no database")
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_known_answers() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283
    assert lz4_block(b"\x13a\x01\x00\x10b", 9) == b"aaaaaaaab"
