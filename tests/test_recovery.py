"""The report of what opening a file found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synadb import SynaDB

if TYPE_CHECKING:
    from pathlib import Path


def test_recovery_says_what_was_dropped(path: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.db"
    with SynaDB(path, sync_on_write=False) as db:
        ends = []
        for number in range(3):
            db.put("k", number)
            ends.append(db.stats()["log_bytes"])
        # The file of a writer that dies now, one byte of its second commit never written.
        data = bytearray(path.read_bytes())
    data[ends[1] - 9] ^= 1
    torn.write_bytes(data)
    for access, needs_recovery in [("read_only", True), ("shared", False)]:
        with SynaDB(torn, access=access) as db:
            report = db.recovery()
            assert db.history("k") == [0]
            assert db.stats()["recovery"] == report
        assert (report["torn"], report["needs_recovery"]) == (True, needs_recovery)
        assert (report["tail"], report["dropped_from"]) == (ends[0], ends[0])
        assert ends[2] - 16 < report["dropped_to"] <= ends[2]  # A frame may end in zero bytes.
        assert report["bytes_dropped"] == report["dropped_to"] - report["dropped_from"]
        assert report["commits_dropped"] == 1
    with SynaDB(torn) as db:
        report = db.recovery()
    assert (report["torn"], report["bytes_dropped"], report["commits_replayed"]) == (False, 0, 1)
    assert report["dropped_from"] == report["dropped_to"] == ends[0]
