"""A second reader of the format, from docs/format.md and Python's standard library alone.

`python read_log.py FILE` verifies a database file and prints what it holds as JSON. The checkpoint
beside the file is not looked at: the log has everything.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from log_encoding import crc32c, decode, fold16, lz4_block, round_up, varint

FORMAT = 1
"""The highest format number that this reader knows."""
PAGE = 4096
FRAMES_START = 2 * PAGE
MAGIC = b"\x89SYNADB\n"
SYNCED = PAGE + 448
SMALL_PAYLOAD = 64
FRAME_BYTES_MAX = 64 << 20
CHUNK = 64 << 10
ALIGN = 64

SOLE, MARK, GAP, FRONT, REWRITTEN, RESERVES = 1, 2, 4, 8, 16, 32
LARGE, COMPRESSED, IN_EXTENT = 8, 32, 64
PUT, DELETE, TABLE, EXTENT, ROW = 1, 2, 3, 4, 5
METRICS = ("cosine", "euclidean", "dot_product")


class DamageError(Exception):
    """Something that a checksum or a mark vouches for is not there."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset


@dataclass(frozen=True)
class Identity:
    """Page 0."""

    database_id: bytes
    generation: int
    horizon: int
    history_from: int
    damage: tuple[int, ...] = ()


def read_identity(page: bytes) -> Identity:
    """The identity from whichever copy is good."""
    copies, damage = [], []
    for at in (0, 2048):
        copy = page[at : at + 64]
        whole = len(copy) == 64 and copy[:8] == MAGIC
        if not whole or crc32c(copy[:60]) != int.from_bytes(copy[60:], "little"):
            damage.append(at)
            continue
        number, oldest, incompatible, for_readers, _ = struct.unpack_from("<HHIII", copy, 8)
        if number < FORMAT:
            raise DamageError(at, f"format {number}, from before the format was settled")
        if oldest > FORMAT or incompatible or for_readers:
            raise DamageError(at, f"readers of format {oldest}, features {incompatible:#x}")
        copies.append(copy)
    if not copies:
        raise DamageError(0, "no copy of the identity is good")
    rest = page[:PAGE]
    damage += [n for n, b in enumerate(rest) if b and not (n < 64 or 2048 <= n < 2112)]
    horizon, history_from, generation = struct.unpack_from("<QQI", copies[0], 40)
    return Identity(copies[0][24:40], generation, horizon, history_from, tuple(damage))


@dataclass(frozen=True)
class Frame:
    """The decoded head of a frame."""

    offset: int
    length: int
    crc: int
    link: int
    flags: int
    time: int
    mark: int
    gap: int
    head_len: int
    front_len: int

    @property
    def end(self) -> int:
        """Where the frame ends."""
        return self.offset + self.length

    @property
    def gap_start(self) -> int:
        """Where the gap begins, if there is one."""
        return round_up(self.end, ALIGN)

    @property
    def next(self) -> int:
        """Where the next frame begins."""
        return self.gap_start + self.gap if self.gap else round_up(self.end, 8)


@dataclass(frozen=True)
class Record:
    """One change."""

    position: int
    kind: int
    tag: int
    flags: int
    table: int
    key: bytes
    previous: int
    payload_len: int
    small: bytes
    large: tuple[int, int]
    origin: tuple[int, int] | None


@dataclass
class Table:
    """What a table holds now."""

    id: int
    name: str
    kind: int
    config: bytes
    keys: dict[bytes, list[Record]] = field(default_factory=dict)
    """Records since the last delete, oldest first; only live keys."""
    newest: dict[bytes, Record] = field(default_factory=dict)
    """The newest record, also where it is a delete."""
    extents: list[tuple[int, int, int]] = field(default_factory=list)
    """First row, rows and start of each extent of rows."""
    rows: set[int] = field(default_factory=set)
    """Rows that were committed."""
    last: dict[int, int] = field(default_factory=dict)
    """Of each extent by its first row the one that was committed last."""

    @property
    def dimensions(self) -> int:
        """Components of a row."""
        return int.from_bytes(self.config[:2], "little")

    def take(self, row: int, offset: int) -> bool:
        """Takes a row that lies there; false where it cannot: rows of an extent come in order."""
        stride = round_up(4 * self.dimensions, ALIGN)
        for first, rows, start in self.extents:
            if first <= row < first + rows:
                fits = offset == start + (row - first) * stride and row > self.last.get(first, -1)
                self.rows.add(row)
                self.last[first] = row
                return fits
        return False


class Log:
    """A database file, verified when it is opened."""

    def __init__(self, path: str | Path) -> None:
        self.data = Path(path).read_bytes()
        self.identity = read_identity(self.data[:PAGE])
        generation = self.identity.generation.to_bytes(8, "little")
        self.seed = crc32c(generation, crc32c(self.identity.database_id))
        self.tables: dict[int, Table] = {}
        self.frames, self.torn = self._recover()
        self.tail = self.frames[-1].next if self.frames else FRAMES_START
        self.sequence = self.identity.horizon
        for frame in self.frames:
            self.sequence += not frame.flags & (REWRITTEN | RESERVES)
            self._verify_padding(frame)
            for record in self.records(frame):
                self._apply(record, frame)

    # Frames

    def _bytes(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > len(self.data):
            raise DamageError(offset, "something outside of the file")
        return self.data[offset : offset + length]

    def frame(self, offset: int) -> Frame | None:
        """The frame at `offset`, its front verified; `None` where none is or it does not fit."""
        head = self.data[offset : offset + 36]
        if len(head) < 24:
            return None
        length, crc, link, flags, check, time = struct.unpack_from("<IIIHHQ", head)
        if length == 0 or length > FRAME_BYTES_MAX or flags & ~63:
            return None
        words, head_len = {}, 24
        for flag in (MARK, GAP, FRONT):
            if flags & flag:
                words[flag] = int.from_bytes(head[head_len : head_len + 4], "little")
                head_len += 4
        front_len = words.get(FRONT, length)
        if not head_len <= front_len <= length or offset + length > len(self.data):
            return None
        mark = offset - 8 * words[MARK] if MARK in words else 0
        place = struct.pack("<QI", offset, length)
        if mark < 0 or fold16(crc32c(place + head[8:14] + head[16:head_len], self.seed)) != check:
            return None
        if crc32c(place + self.data[offset + 8 : offset + front_len], self.seed) != crc:
            return None
        gap = ALIGN * words.get(GAP, 0)
        return Frame(offset, length, crc, link, flags, time, mark, gap, head_len, front_len)

    def _recover(self) -> tuple[list[Frame], bool]:
        word = int.from_bytes(self.data[SYNCED : SYNCED + 8], "little")
        position = word & ((1 << 48) - 1)
        check = fold16(crc32c(position.to_bytes(8, "little") + self.identity.database_id))
        synced = position if check == word >> 48 else 0
        frames: list[Frame] = []
        at, link, time = FRAMES_START, 0, 0
        while (frame := self.frame(at)) is not None:
            is_cut = frame.gap > 0 and frame.next > len(self.data)
            if frame.link != link or frame.time <= time or frame.mark > frame.offset or is_cut:
                break
            frames.append(frame)
            synced = max(synced, frame.mark)
            at, link, time = frame.next, frame.crc, frame.time
        for index, frame in enumerate(frames):
            if frame.next > synced and not self._commits_whole(frame):
                del frames[index:]
                at = frame.offset
                break
        torn = any(self.data[at:])
        if torn:
            synced = max(synced, self._marks_behind(at))
        if synced > min(at, len(self.data)):
            raise DamageError(at, f"the log ends there, but everything up to {synced} was synced")
        return frames, torn

    def _commits_whole(self, frame: Frame) -> bool:
        try:
            for record in self.records(frame):
                self.value(record)
                self.row(record)
        except DamageError:
            return False
        return True

    def _marks_behind(self, tail: int) -> int:
        marks, at, end = 0, tail + 8, len(self.data.rstrip(b"\0"))
        while at + 24 <= end:
            frame = self.frame(at)
            marks = max(marks, frame.mark) if frame else marks
            at = frame.next if frame else at + 8
        return marks

    def _verify_padding(self, frame: Frame) -> None:
        end = frame.gap_start if frame.gap else frame.next
        if any(self.data[frame.end : end]):
            raise DamageError(frame.end, "padding is not zero")

    # Records

    def records(self, frame: Frame) -> list[Record]:
        """The records of a frame, each with its own checksum verified."""
        at, end, found = frame.offset + frame.head_len, frame.offset + frame.front_len, []
        while at < end:
            try:
                record, covered = self._record(at, frame)
            except (IndexError, ValueError) as error:
                raise DamageError(at, f"a record cannot be decoded: {error}") from error
            if not record.flags & SOLE:
                crc = crc32c(self.data[at:covered], crc32c(struct.pack("<Q", at), self.seed))
                if self._bytes(covered, 4) != crc.to_bytes(4, "little"):
                    raise DamageError(at, "a record does not fit its checksum")
                covered += 4
            found.append(record)
            at = covered
        if at != end or not found:
            raise DamageError(at, "records do not fill the front")
        sole = frame.flags & SOLE
        if sole != (len(found) == 1) or any(record.flags & SOLE != sole for record in found):
            raise DamageError(frame.offset, "frame and record disagree on being alone")
        return found

    def _record(self, at: int, frame: Frame) -> tuple[Record, int]:
        position, data = at, self.data
        kind, tag, flags = data[at] & 15, data[at] >> 4, data[at + 1]
        if kind not in (PUT, DELETE, TABLE, EXTENT, ROW) or flags & 128:
            raise ValueError(f"kind {kind}, flags {flags:#x}")
        if flags & SOLE and 24 + 4 * (flags >> 1 & 3) != frame.head_len:
            raise ValueError("another length of the head")
        numbers = []
        at += 2
        for _ in range(6 if flags & REWRITTEN else 4):
            number, at = varint(data, at)
            numbers.append(number)
        table, key_len, payload_len, back = numbers[:4]
        large, small_len = (0, 0), payload_len
        if flags & LARGE:
            large, small_len, at = struct.unpack_from("<II", data, at), 0, at + 8
        if small_len > SMALL_PAYLOAD or key_len > 65_535 or back > position:
            raise ValueError("a length or distance that cannot be")
        key = self._bytes(at, key_len)
        small = self._bytes(at + key_len, small_len)
        record = Record(
            position, kind, tag, flags, table, key, position - back if back else 0, payload_len,
            small, large, (numbers[4], numbers[5]) if flags & REWRITTEN else None,
        )  # fmt: skip
        return record, at + key_len + small_len

    def payload(self, record: Record) -> bytes:
        """The payload, verified."""
        if not record.flags & LARGE:
            return record.small
        crc, distance = record.large
        payload = self._bytes(record.position + distance, record.payload_len)
        if crc32c(payload) != crc:
            raise DamageError(record.position + distance, "a payload does not fit its checksum")
        return payload

    def value(self, record: Record) -> bytes:
        """The stored bytes of the value, verified, out of their extent where they lie in one."""
        payload = self.payload(record)
        if not record.flags & IN_EXTENT:
            return payload
        if len(payload) != 20:
            raise DamageError(record.position, "a seal of another length")
        start, length, list_crc = struct.unpack("<QQI", payload)
        value = self._bytes(start, length)
        sums = self._bytes(start + round_up(length, ALIGN), 4 * -(-length // CHUNK))
        if crc32c(sums) != list_crc:
            raise DamageError(start, "checksums of an extent do not fit")
        for number, (crc,) in enumerate(struct.iter_unpack("<I", sums)):
            if crc32c(value[number * CHUNK : (number + 1) * CHUNK]) != crc:
                raise DamageError(start + number * CHUNK, "a chunk of an extent does not fit")
        return value

    def row(self, record: Record) -> tuple[int, int, bytes] | None:
        """Number, offset and bytes of the row that a record commits, verified."""
        if record.kind != ROW:
            return None
        if len(record.small) != 29:
            raise DamageError(record.position, "a row record of another length")
        dtype, row, offset, length, crc, _, _ = struct.unpack("<BIQIIfI", record.small)
        data = self._bytes(offset, length)
        if dtype != 0 or crc32c(data) != crc:
            raise DamageError(offset, "a row does not fit its checksum")
        return row, offset, data

    # Tables

    def _apply(self, record: Record, frame: Frame) -> None:
        if record.kind == TABLE:
            self._add_table(record)
            return
        table = self.tables.get(record.table)
        if table is None:
            raise DamageError(record.position, f"no table {record.table}")
        if record.kind == EXTENT:
            self._add_extent(table, record, frame)
            return
        newest = table.newest.get(record.key)
        expected = newest.position if newest else 0
        ends_nothing = record.kind == DELETE and (newest is None or newest.kind == DELETE)
        if not record.key or record.previous != expected or ends_nothing:
            raise DamageError(record.position, "a record does not follow the one of its key before")
        table.newest[record.key] = record
        if record.kind == DELETE:
            table.keys.pop(record.key, None)
            return
        if (record.kind == ROW) != (table.kind == 2):
            raise DamageError(record.position, "a record of another kind of table")
        self.value(record)
        if record.kind == ROW:
            row, offset, data = self.row(record) or (0, 0, b"")
            if not table.take(row, offset) or len(data) != 4 * table.dimensions:
                raise DamageError(record.position, "a row out of its place")
        table.keys.setdefault(record.key, []).append(record)

    def _add_table(self, record: Record) -> None:
        payload, name = self.payload(record), record.key.decode()
        number, kind = struct.unpack_from("<IB", payload)
        names = [table.name for table in self.tables.values()]
        if number != len(self.tables) + 1 or name in names or kind not in (1, 2):
            raise DamageError(record.position, f"table {number} {name!r} cannot follow")
        self.tables[number] = Table(number, name, kind, payload[5:])

    def _add_extent(self, table: Table, record: Record, frame: Frame) -> None:
        size, align, first, rows = struct.unpack("<QIII", self.payload(record))
        if round_up(size, ALIGN) + align - ALIGN > frame.gap:
            raise DamageError(record.position, "an extent larger than its gap")
        if table.kind == 1:
            return
        reserved = sum(table.extents[-1][:2]) if table.extents else 0
        if first != reserved or size != rows * round_up(4 * table.dimensions, ALIGN) or not rows:
            raise DamageError(record.position, "rows reserved out of order")
        table.extents.append((first, rows, round_up(frame.gap_start, align)))

    # What a user sees

    def table(self, name: str) -> Table | None:
        """The table of that name."""
        return next((table for table in self.tables.values() if table.name == name), None)

    def values(self, record: Record) -> list[Any]:
        """What a record adds to its key's history; vectors are lists of floats."""
        if record.kind == ROW:
            _, _, data = self.row(record) or (0, 0, b"")
            return [list(struct.unpack(f"<{len(data) // 4}f", data))]
        data, tag = self.value(record), record.tag
        try:
            if record.flags & COMPRESSED:
                data = lz4_block(data[4:], int.from_bytes(data[:4], "little"))
            return decode(tag, data)
        except (ValueError, struct.error, IndexError) as error:
            raise DamageError(record.position, f"no value of tag {tag}: {error}") from error

    def state(self, name: str = "kv") -> dict[str, Any]:
        """The newest value of every live key of a table."""
        table = self.table(name)
        items = sorted(table.keys.items()) if table else []
        return {key.decode(): self.values(records[-1])[-1] for key, records in items}

    def histories(self, name: str = "kv") -> dict[str, list[Any]]:
        """All values since the last delete of every live key of a table, oldest first."""
        table = self.table(name)
        items = sorted(table.keys.items()) if table else []
        return {k.decode(): [v for r in records for v in self.values(r)] for k, records in items}


def shown(log: Log) -> dict[str, Any]:
    """Everything, ready for JSON."""
    tables = {}
    for table in log.tables.values():
        row: dict[str, Any] = {"id": table.id, "kind": "vectors" if table.kind == 2 else "values"}
        if table.kind == 2:
            row |= {"dimensions": table.dimensions, "metric": METRICS[table.config[2]]}
            row |= {"extents": table.extents, "vectors": log.state(table.name)}
        else:
            row["histories"] = log.histories(table.name)
        tables[table.name] = row
    return {
        "database_id": log.identity.database_id.hex(),
        "generation": log.identity.generation,
        "horizon": log.identity.horizon,
        "damage": log.identity.damage,
        "frames": len(log.frames),
        "sequence": log.sequence,
        "tail": log.tail,
        "torn": log.torn,
        "tables": tables,
    }


def base64_of(data: bytes) -> dict[str, str]:
    """Bytes, as JSON can hold them."""
    return {"base64": base64.b64encode(data).decode()}


def main() -> int:
    """Prints a file as JSON; 1 where it is corrupt."""
    if len(sys.argv) != 2:
        print("usage: read_log.py FILE", file=sys.stderr)
        return 2
    try:
        log = Log(sys.argv[1])
        found = shown(log)
    except (DamageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout, indent=1, default=base64_of)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
