"""The tracked files of the repository, for the tests of its rules."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Files that git tracks or would track, in order; all but hidden folders without git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        skipped = {"target", ".venv", ".tools", ".bench", ".git"}
        found = (p for p in ROOT.rglob("*") if not skipped & set(p.relative_to(ROOT).parts))
    else:
        found = (ROOT / name for name in listed.decode().split("\0") if name)
    return tuple(sorted({path for path in found if path.is_file()}))


def sources(*suffixes: str) -> list[Path]:
    """Source files with one of the suffixes."""
    return [path for path in files() if path.suffix in suffixes]


def name(path: Path) -> str:
    """A path relative to the repository's root."""
    return path.relative_to(ROOT).as_posix()
