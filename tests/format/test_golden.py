"""The golden files of the format, `tests/format/v1`: read by the engine and by the second reader.

`make golden` writes them anew; `rust/synadb/tests/golden.rs` compares what it would write. What
earlier writers laid out otherwise lies in `v1_earlier`: it is read for good, and no longer written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_encoding import crc32c, round_up
from read_log import ALIGN, FORMAT, IN_EXTENT, PAGE, ROW, DamageError, Log

from synadb import SynaDB, SynaError, VectorStore

FOLDER = Path(__file__).with_name("v1")
EARLIER = Path(__file__).with_name("v1_earlier")
FOLDERS = {path.stem: folder for folder in (FOLDER, EARLIER) for path in folder.glob("*.json")}
NAMES = sorted(FOLDERS)
STRIDES = {"vectors": (17, 97), "vectors_without_lead": (17, 97), "checkpoint": (3, 3)}
"""How far apart the bytes are that are changed, in frames and in rows; 1 where nothing is said."""
SECOND_COPY = 2048


def expected(name: str) -> dict[str, Any]:
    """What a file must hold, as Python values."""
    found = json.loads((FOLDERS[name] / f"{name}.json").read_text())
    histories = found["histories"].items()
    found["histories"] = {key: [plain(value) for value in values] for key, values in histories}
    return found


def plain(shown: dict[str, Any]) -> Any:
    """A value of the list."""
    kind, value = next(iter(shown.items()))
    if kind == "hex":
        return bytes.fromhex(value) * shown["times"]
    return float(value) if kind == "float" else value


def same(found: Any, value: Any) -> bool:
    """Equal, and of one type; zeros of both signs differ, and NaN is itself."""
    if isinstance(found, np.ndarray):
        found = found.tolist()
    return type(found) is type(value) and repr(found) == repr(value)


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Any]:
    """Copies a file and its checkpoint to where it may be changed; in memory where there is one."""
    memory = Path("/dev/shm")
    folder = memory / f"synadb-golden-{os.getpid()}" if memory.is_dir() else tmp_path / "copies"

    def of(name: str) -> Path:
        folder.mkdir(exist_ok=True)
        for path in FOLDERS[name].glob(f"{name}.db*"):
            shutil.copyfile(path, folder / path.name)
        return folder / f"{name}.db"

    yield of
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("folder", [FOLDER, EARLIER], ids=lambda folder: folder.name)
def test_no_byte_of_a_golden_file_has_changed(folder: Path) -> None:
    lines = [line.split() for line in (folder / "MANIFEST").read_text().splitlines()]
    assert {name for name, _, _ in lines} | {"MANIFEST"} == {p.name for p in folder.iterdir()}
    for name, size, crc in lines:
        data = (folder / name).read_bytes()
        assert (len(data), f"{crc32c(data):08x}") == (int(size), crc), name


def test_golden_files_have_every_flag_kind_and_tag() -> None:
    frame_flags, record_flags, kinds, tags = 0, 0, set(), set()
    for name in NAMES:
        log = Log(FOLDERS[name] / f"{name}.db")
        for frame in log.frames:
            frame_flags |= frame.flags
            for record in log.records(frame):
                record_flags |= record.flags
                kinds.add(record.kind)
                tags |= {record.tag} if record.kind == 1 else set()
    assert (frame_flags, record_flags) == (63, 127)
    assert (kinds, tags) == ({1, 2, 3, 4, 5}, set(range(7)))
    assert expected("torn")["torn"]
    assert expected("compacted")["generation"] == 1
    assert (FOLDER / "checkpoint.db-ckpt").exists()


@pytest.mark.parametrize("name", NAMES)
def test_second_reader_finds_what_is_listed(name: str) -> None:
    wanted, log = expected(name), Log(FOLDERS[name] / f"{name}.db")
    assert not log.identity.damage
    assert int.from_bytes(log.data[8:10], "little") == FORMAT
    assert (log.identity.generation, log.sequence) == (wanted["generation"], wanted["sequence"])
    assert log.torn == wanted["torn"]
    histories = {key: list(map(as_stored, values)) for key, values in wanted["histories"].items()}
    assert same(sorted(log.histories().items()), sorted(histories.items()))
    found = {table.name: log.state(table.name) for table in log.tables.values() if table.kind == 2}
    assert found == {name: rows_of(table) for name, table in wanted["vectors"].items()}


def rows_of(table: dict[str, Any]) -> dict[str, list[float]]:
    """Rows as 32 bits hold them."""
    return {key: np.float32(row).tolist() for key, row in table["rows"].items()}


@pytest.mark.parametrize("access", ["read_only", "shared"])
@pytest.mark.parametrize("name", NAMES)
def test_engine_finds_what_is_listed(name: str, access: str, copy: Any) -> None:
    check_content(copy(name), expected(name), access)


def check_content(path: Path, wanted: dict[str, Any], access: str) -> None:
    """The engine finds exactly that."""
    with SynaDB(path, access=access) as db:
        assert sorted(db) == sorted(wanted["histories"])
        for key, history in wanted["histories"].items():
            found = db.history(key)
            assert len(found) == len(history)
            assert all(map(same, found, map(as_stored, history))), key
            assert same(db[key], as_stored(history[-1]))
        stats = db.stats()
        assert (stats["generation"], stats["sequence"]) == (
            wanted["generation"],
            wanted["sequence"],
        )
        assert db.recovery()["torn"] == wanted["torn"]
        assert db.verify()["ok"]
        for name, table in wanted["vectors"].items():
            kind = table["metric"]
            with VectorStore(db, table["dimensions"], metric=kind, name=name) as store:
                assert {key: store[key].tolist() for key in store} == rows_of(table)


def as_stored(value: Any) -> Any:
    """Vectors are kept in 32 bits."""
    return np.float32(value).tolist() if isinstance(value, list) else value


def looked_at(name: str, log: Log) -> list[int]:
    """Offsets that a checksum vouches for: all but page 1 and what no record commits of a gap."""
    step, row_step = STRIDES.get(name, (1, 1))
    offsets = [*range(64), *range(64, SECOND_COPY, 61), *range(SECOND_COPY, SECOND_COPY + 64)]
    offsets += range(SECOND_COPY + 64, PAGE, 61)
    for frame in log.frames:
        head = range(frame.offset, frame.end if frame.gap else frame.next)
        offsets += head[::step]
        for record in log.records(frame):
            if record.kind == ROW:
                _, offset, data = log.row(record) or (0, 0, b"")
                offsets += range(offset, offset + len(data), row_step)
            elif record.flags & IN_EXTENT:
                start, size = (int.from_bytes(record.small[at : at + 8], "little") for at in (0, 8))
                sums = start + round_up(size, ALIGN)
                offsets += [*range(start, start + size, 65_537), *range(sums, sums + 4)]
    # What nobody has written behind the end is zero.
    return offsets + list(range(log.tail + 8, len(log.data), 509))


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_byte_is_noticed(name: str, copy: Any) -> None:
    path, wanted, log = copy(name), expected(name), Log(FOLDERS[name] / f"{name}.db")
    offsets = looked_at(name, log)
    with path.open("r+b", buffering=0) as file:
        for offset in offsets:
            if name == "torn" and offset >= log.tail:
                continue
            byte = log.data[offset]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << offset % 8]), offset)
            assert is_noticed(path, wanted), f"offset {offset} of {name}"
            os.pwrite(file.fileno(), bytes([byte]), offset)
    assert path.read_bytes() == log.data
    assert len(offsets) > 300


def is_noticed(path: Path, wanted: dict[str, Any]) -> bool:
    """The engine refuses the file, reports damage, or says that the end is torn."""
    try:
        with SynaDB(path, access="read_only") as db:
            found = (db.verify()["ok"], db.recovery()["torn"], db.sequence)
            return found != (True, wanted["torn"], wanted["sequence"])
    except SynaError:
        return True


@pytest.mark.parametrize("name", ["batches", "compacted", "killed"])
def test_second_reader_notices_a_changed_byte(name: str, copy: Any) -> None:
    path, log = copy(name), Log(FOLDERS[name] / f"{name}.db")
    for offset in looked_at(name, log)[::17]:
        data = bytearray(log.data)
        data[offset] ^= 1 << offset % 8
        path.write_bytes(data)
        try:
            found = Log(path)
        except DamageError:
            continue
        assert found.torn != log.torn or found.identity.damage, offset


def test_a_damaged_checkpoint_is_no_loss(copy: Any) -> None:
    path, wanted = copy("checkpoint"), expected("checkpoint")
    beside = path.with_name("checkpoint.db-ckpt")
    whole = beside.read_bytes()
    for offset in [*range(0, 128, 7), *range(PAGE, len(whole), 41)]:
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        beside.write_bytes(damaged)
        check_content(path, wanted, "read_only")
    beside.write_bytes(whole)
    with SynaDB(path, access="read_only") as db:
        assert db.recovery()["replayed_from"] > 8192, "the whole one is used"
