"""Files for the tests of the original's defects: damaged, cut, left by killed writers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from read_log import Log

WIDTH = 8


def random_rows(count: int, width: int = WIDTH, seed: int = 7) -> np.ndarray:
    """Rows of float32 from a fixed seed."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def run_python(code: str, *arguments: object) -> str:
    """What a Python process prints; its failure, or a word on standard error, fails the test."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def left_by_a_killed_writer(path: Path, body: str, sync_on_write: bool = False) -> None:
    """Run `body` with an open `db` in a process that ends without closing it."""
    code = (
        "import os, sys, synadb\n"
        f"db = synadb.SynaDB(sys.argv[1], sync_on_write={sync_on_write})\n"
        f"{body}\n"
        "os._exit(0)\n"
    )
    run_python(code, path)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Change one bit of a file in its place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def flip_stored(path: Path, stored: bytes) -> int:
    """Change one bit in the middle of these bytes, which stand once in the file; the offset."""
    content = path.read_bytes()
    assert content.count(stored) == 1
    offset = content.index(stored) + len(stored) // 2
    flip(path, offset)
    return offset


def cut(path: Path, other: Path, at: int, is_truncated: bool) -> int:
    """Copy what a writer leaves that died before the byte `at`; how many frames are whole."""
    content = path.read_bytes()
    rest = b"" if is_truncated else bytes(len(content) - at)
    other.write_bytes(content[:at] + rest)
    ends = [frame.end for frame in Log(path).frames]
    return sum(end <= at or (not is_truncated and not any(content[at:end])) for end in ends)
