"""The demo's steps that need a second process: a killed writer, a reader beside a writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from synadb import SynaDB

KILL_AFTER_S = 0.5
"""Seconds that the child may write before it is killed."""

BESIDE_COUNT = 20_000
"""Commits made while the reader looks on."""

READER_WAIT_S = 30.0
"""Seconds after which a reader that has not seen the last commit gives up."""


def kill_a_writer(path: Path) -> None:
    """Kill a child that writes and acknowledges; reopen; all that it acknowledged is there.

    Raises `SystemExit` when something is missing.
    """
    child = _start("write", path)
    assert child.stdout is not None
    lines = [child.stdout.readline()]
    deadline = time.monotonic() + KILL_AFTER_S
    # Read all the while: a child that waits for room in a full pipe is not killed amid a put.
    while lines[-1] and time.monotonic() < deadline:
        lines.append(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate()
    lines += rest.splitlines(keepends=True)
    acknowledged = [int(line) for line in lines if line.endswith("\n")]
    if child.returncode != -signal.SIGKILL or not acknowledged:
        raise SystemExit(f"demo: the writing child ended by itself: {child.returncode}")
    start = time.perf_counter()
    with SynaDB(path) as database:
        opened_ms = (time.perf_counter() - start) * 1_000
        missing = [n for n in acknowledged if database.get_text(f"child/{n}") != _text(n)]
        found = len(database.keys(prefix="child/"))
    print(f"killed after {len(acknowledged):,} acknowledged puts; reopened in {opened_ms:.1f} ms")
    print(f"found {found:,}, missing {len(missing)}")
    if missing:
        raise SystemExit(f"demo: {len(missing)} acknowledged puts are missing, first {missing[0]}")


def read_beside_a_writer(path: Path) -> None:
    """Write here while a child reads; the child sees every commit whole and in order.

    Raises `SystemExit` when the child reports otherwise.
    """
    with SynaDB(path, sync_on_write=False) as database:
        database.put_int("beside/last", -1)
        child = _start("read", path)
        assert child.stdout is not None
        child.stdout.readline()
        start = time.perf_counter()
        for number in range(BESIDE_COUNT):
            database.put_text(f"beside/{number}", _text(number))
            database.put_int("beside/last", number)
        seconds = time.perf_counter() - start
        report, _ = child.communicate(timeout=2 * READER_WAIT_S)
    print(f"wrote {2 * BESIDE_COUNT:,} commits in {seconds:.3f} s beside the reader")
    print(f"the reader: {report.strip()}")
    if child.returncode:
        raise SystemExit(f"demo: the reader failed with status {child.returncode}")


def _start(role: str, path: Path) -> subprocess.Popen[str]:
    """Start this module as a child process in a role."""
    command = [sys.executable, "-m", "synadb._demo_processes", role, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _text(number: int) -> str:
    return f"commit {number} of a process that may die"


def _write(path: Path) -> None:
    """Put and acknowledge until killed."""
    with SynaDB(path, sync_on_write=False) as database:
        number = 0
        while True:
            database.put_text(f"child/{number}", _text(number))
            print(number, flush=True)
            number += 1


def _read(path: Path) -> int:
    """Follow the writer until its last commit; 1 when something announced was not there."""
    with SynaDB(path, access="read_only") as database:
        print("ready", flush=True)
        last, seen = -1, 0
        deadline = time.monotonic() + READER_WAIT_S
        while last < BESIDE_COUNT - 1 and time.monotonic() < deadline:
            database.refresh()
            now = database.get_int("beside/last")
            if now is None or now < last:
                print(f"'beside/last' went from {last} to {now}")
                return 1
            if now >= 0 and database.get_text(f"beside/{now}") != _text(now):
                print(f"'beside/{now}' was announced and is not there")
                return 1
            seen += now != last
            last = now
    print(f"saw {seen:,} states in order, the last with {last + 1:,} texts")
    return 0 if last == BESIDE_COUNT - 1 else 1


def main() -> int:
    """Run as a child process: `write PATH` or `read PATH`."""
    role, path = sys.argv[1], Path(sys.argv[2])
    if role == "read":
        return _read(path)
    _write(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
