"""Bad files: each has its exception, which names the path and the cause; no byte changes."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from log_encoding import crc32c

import synadb
from synadb import SynaDB, VectorStore


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (
            "missing/a.db",
            synadb.MissingDirectoryError,
            ["missing/a.db", "directory does not exist"],
        ),
        ("folder", synadb.PathIsDirectoryError, ["folder", "is a directory"]),
        ("file/a.db", synadb.MissingDirectoryError, ["file/a.db", "directory"]),
        ("a\0b", synadb.InvalidPathError, ["NUL"]),
        ("n" * 300, synadb.StorageError, ["nnn", "name too long"]),
    ],
)
@pytest.mark.parametrize("kind", [SynaDB, VectorStore])
def test_bad_path_is_refused(
    tmp_path: Path, kind: Any, name: str, error: type[Exception], words: list[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error) as caught:
        kind(f"{tmp_path}/{name}", *([8] if kind is VectorStore else []))
    text = str(caught.value).lower()
    assert [word for word in words if word.lower() not in text] == []
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("path", [None, 3, 1.5, ["a.db"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match=r"str, bytes or os.PathLike"):
        SynaDB(path)


WITHOUT_ROOTS_RIGHTS = """
import os, sys, synadb
if os.geteuid() == 0:
    os.setuid(65534)
for access in ("shared", "exclusive"):
    try:
        synadb.SynaDB(sys.argv[1], access=access)
    except PermissionError as error:
        print(type(error).__name__, error)
with synadb.SynaDB(sys.argv[1], access="read_only") as db:
    try:
        db.put("k", db["k"] + 1)
    except synadb.ReadOnlyError as error:
        print(type(error).__name__, error)
"""


def test_read_only_file_is_refused_for_writing() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        with SynaDB(path) as db:
            db.put("k", 1)
        Path(folder).chmod(0o755)
        path.chmod(0o444)
        before = path.read_bytes()
        command = [sys.executable, "-c", WITHOUT_ROOTS_RIGHTS, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        assert (len(lines), done.stderr) == (3, "")
        assert all(line.startswith("ReadOnlyError") and str(path) in line for line in lines)
        assert path.read_bytes() == before


@pytest.mark.parametrize("access", ["shared", "exclusive"])
def test_empty_file_is_a_new_database(path: Path, access: str) -> None:
    path.touch()
    with SynaDB(path, access=access) as db:
        db.put("k", 1)
    with SynaDB(path) as db:
        assert db["k"] == 1


FOREIGN = {
    "one byte": b"x",
    "text": b"hello world\n" * 1000,
    "noise": np.random.default_rng(1).bytes(20_000),
    "other magic": b"SQLite format 3\0" + bytes(8176),
    "zeros and then bytes": bytes(8192) + b"x" * 100,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("access", ["shared", "exclusive", "read_only"])
def test_file_that_is_no_database_is_refused_unchanged(path: Path, kind: str, access: str) -> None:
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(synadb.NotADatabaseError) as caught:
        SynaDB(path, access=access)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == FOREIGN[kind]
    assert [beside.name for beside in path.parent.iterdir()] == [path.name]


def original_record(key: bytes, value: bytes) -> bytes:
    """One record as the original wrote it: header, key, value in bincode."""
    header = struct.pack("<QHIB", 1_700_000_000_000_000, len(key), len(value), 0)
    return header + bytes(16 - len(header)) + key + value


def test_database_of_the_original_names_the_importer_to_come(path: Path) -> None:
    value = struct.pack("<Id", 1, 21.5)
    content = b"".join(original_record(f"k{n}".encode(), value) for n in range(20))
    path.write_bytes(content)
    for access in ("shared", "exclusive", "read_only"):
        with pytest.raises(synadb.LegacyFormatError, match=r"a\.db.*importer.*to come"):
            SynaDB(path, access=access)
        assert path.read_bytes() == content


OTHER_FORMATS = {
    "unreleased": (8, struct.pack("<HH", 0, 0), ["format 0", "older than format 1", "unreleased"]),
    "newer": (8, struct.pack("<HH", 3, 2), ["readers of format 2", "reads 1", "newer synadb"]),
    "feature of readers": (12, struct.pack("<II", 8, 0), ["features 0x8", "newer synadb"]),
    "feature of writers": (12, struct.pack("<II", 0, 2), ["features 0x2", "newer synadb"]),
}


@pytest.mark.parametrize("kind", OTHER_FORMATS)
@pytest.mark.parametrize("access", ["shared", "exclusive", "read_only"])
def test_file_of_another_format_is_refused_unchanged(path: Path, kind: str, access: str) -> None:
    at, field, words = OTHER_FORMATS[kind]
    with SynaDB(path) as db:
        db.put("k", 1)
    content = bytearray(path.read_bytes())
    for copy in (0, 2048):
        content[copy + at : copy + at + len(field)] = field
        content[copy + 60 : copy + 64] = struct.pack("<I", crc32c(content[copy : copy + 60]))
    path.write_bytes(content)
    with pytest.raises(synadb.UnsupportedFormatError, match="this version cannot read") as caught:
        SynaDB(path, access=access)
    assert [word for word in [str(path), *words] if word not in str(caught.value)] == []
    assert ("newer" in str(caught.value)) == (kind != "unreleased")
    assert path.read_bytes() == content
