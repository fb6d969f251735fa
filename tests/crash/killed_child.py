"""Starts a writer, listens to it, and kills it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CHILD = Path(__file__).with_name("crash_child.py")
HUNG_S = 60.0
"""Seconds of silence after which a child counts as hung."""


class Moment(NamedTuple):
    """When to kill: so many seconds after the first line that `is_near` wants."""

    is_near: Callable[[str], bool]
    seconds: float


class Killed(NamedTuple):
    """What a killed writer said: the numbers that it acknowledged, and where it was.

    It was within an act (then `number` is its number), between two, or opening the file.
    """

    acknowledged: list[int]
    within: str
    number: int | None


def kill_a_writer(arguments: list[object], moment: Moment) -> Killed:
    """Run the child with `arguments` and kill it at `moment`."""
    command = [sys.executable, *map(str, [CHILD, *arguments])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        output = _Output(child)
        output.read_until(lambda: any(map(moment.is_near, output.lines)), HUNG_S)
        killed_at = time.monotonic() + moment.seconds
        output.read_until(lambda: time.monotonic() >= killed_at, moment.seconds)
        child.send_signal(signal.SIGKILL)
        output.read_to_the_end()
    assert child.returncode == -signal.SIGKILL, "the child ended by itself"
    words = [line.split() for line in output.lines]
    acknowledged = [int(rest[0]) for word, *rest in words if word == "done"]
    word, *rest = words[-1]
    if word == "begin":
        return Killed(acknowledged, "an act", int(rest[0]))
    return Killed(acknowledged, "opening" if word == "open" else "between acts", None)


class _Output:
    """The lines of a child, read as they come, so that it never waits for room in the pipe."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        self.descriptor = child.stdout.fileno()
        self.lines: list[str] = []
        self.rest = b""

    def read_until(self, is_enough: Callable[[], bool], silence_s: float) -> None:
        """Read until it is enough, or until nothing came for so long."""
        while not is_enough():
            if not select.select([self.descriptor], [], [], silence_s)[0]:
                assert silence_s < HUNG_S, f"the child hangs after {self.lines[-1:]}"
            elif not self._read():
                raise AssertionError(f"the child ended by itself after {self.lines[-1:]}")

    def read_to_the_end(self) -> None:
        """Read what the child had said when it was killed."""
        while self._read():
            pass

    def _read(self) -> bool:
        data = os.read(self.descriptor, 1 << 16)
        *complete, self.rest = (self.rest + data).split(b"\n")
        self.lines += [line.decode() for line in complete]
        return bool(data)
