"""What the writers of a swarm commit, and the board on which they say how far they are.

Commit `number` of a writer depends on both numbers alone. Every commit has a key of its own, so
that a compaction drops none; every second one also changes keys that all writers change, and the
one vector store, in one transaction.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

WIDTH = 8
PAIRS = 4
"""Pairs of keys that all writers change."""
ROWS = 32
"""Vectors that all writers replace."""
NUMBERS = 1_000_000
"""More than the commits of any writer."""
LARGE_BYTES = 4 << 20
"""A value of more bytes lies in an extent."""

IDLE, OPENING, CHECKPOINT, COMPACT, GROWTH = range(5)
"""What a writer says that it is doing."""


class Commit(NamedTuple):
    """One commit of a writer."""

    writer: int
    number: int

    @property
    def code(self) -> int:
        """Says which commit it is, in every value that it writes."""
        return self.writer * NUMBERS + self.number

    @property
    def key(self) -> str:
        """The key of its own."""
        return f"c/{self.writer}/{self.number}"

    @property
    def value(self) -> bytes:
        """The value of its own key."""
        return self.code.to_bytes(8, "little") * (self.size // 8)

    @property
    def size(self) -> int:
        """Bytes of that value: most are small, some make the file grow at once."""
        dice = self.code * 2654435761 % (1 << 32)
        if self.number % 10_000 == 4001:
            return LARGE_BYTES + 8 * (dice % 1000 + 1)
        if self.number % 1024 == 301:
            return 65_536 + 8 * (dice % 8192)
        return 8 * (1 + dice % 20) if self.number % 64 != 33 else 5000

    @property
    def is_common(self) -> bool:
        """Whether it also changes what others change."""
        return self.number % 2 == 0

    @property
    def pair(self) -> tuple[str, str]:
        """Two keys that it gives the same value, as others do."""
        pair = self.code * 40503 % 65521 % PAIRS
        return f"pair/{pair}/a", f"pair/{pair}/b"

    @property
    def row_key(self) -> str:
        """The vector that it replaces."""
        return f"row/{self.code * 48271 % 65519 % ROWS}"

    @property
    def row(self) -> list[float]:
        """The vector: exact in 32 bits."""
        return [float(self.writer + 1), *[float(self.number)] * (WIDTH - 1)]


def commit_of(code: int) -> Commit:
    """The commit that a code stands for."""
    return Commit(*divmod(code, NUMBERS))


class Board:
    """Words that all processes of a swarm share, and that outlive any of them."""

    def __init__(self, writers: int, commits: int) -> None:
        self.writers, self.commits = writers, commits
        self._map = mmap.mmap(-1, 8 * (2 + writers * (2 + commits)))
        self._words = memoryview(self._map).cast("Q")

    @property
    def is_over(self) -> bool:
        """Whether all writers have done all."""
        return bool(self._words[0])

    def end(self) -> None:
        """Says that all writers have done all."""
        self._words[0] = 1

    def acknowledged(self, writer: int) -> int:
        """How many commits of a writer have returned."""
        return self._words[2 + 2 * writer]

    def acknowledge(self, commit: Commit, sequence: int) -> None:
        """A commit has returned, and has that sequence number."""
        self._words[2 + 2 * self.writers + commit.writer * self.commits + commit.number] = sequence
        self._words[2 + 2 * commit.writer] = commit.number + 1

    def reach(self, writer: int, number: int) -> None:
        """So many commits of a writer have returned."""
        self._words[2 + 2 * writer] = number

    def sequence(self, commit: Commit) -> int:
        """The sequence number of a commit that was acknowledged."""
        return self._words[2 + 2 * self.writers + commit.writer * self.commits + commit.number]

    def doing(self, writer: int) -> int:
        """What a writer is doing."""
        return self._words[3 + 2 * writer]

    def say(self, writer: int, doing: int) -> None:
        """Says what a writer is doing."""
        self._words[3 + 2 * writer] = doing
