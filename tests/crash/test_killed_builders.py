"""One of several processes is killed while it builds an index, or saves it; the others go on.

`SYNADB_CRASH_ROUNDS` says how often (12; `make crash` says 200).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from build_child import BATCH, KINDS, keys_of, open_store, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from synadb import VectorStore

ROUNDS = int(os.environ.get("SYNADB_CRASH_ROUNDS", "12"))
ROUND_S = 20
MOMENTS = ("begin", "half", "whole", "whole", "saved")
ALIVE = 77
"""The seed of the one that is not killed before the end."""

Model = dict[str, "NDArray[np.float32]"]


class Child:
    """A process that inserts and builds."""

    def __init__(self, path: Path, seed: int, first: int) -> None:
        self.seed, self.next = seed, first
        program = [sys.executable, str(Path(__file__).with_name("build_child.py"))]
        self.process = subprocess.Popen(
            [*program, str(path), str(seed), str(first)], stdout=subprocess.PIPE, text=True
        )

    def read(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().rstrip("\n")
        if line.startswith("done"):
            assert line == f"done {self.next}"
            self.next += 1
        return line

    def read_until(self, wanted: str) -> None:
        """Reads until it says that."""
        while (line := self.read()) != wanted:
            assert line, "it ended by itself"

    def kill(self) -> None:
        """Kills it, and reads what it had said."""
        self.process.send_signal(signal.SIGKILL)
        while self.read():
            pass
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.wait(ROUND_S) == -signal.SIGKILL


def acknowledged(seed: int, count: int) -> Model:
    model: Model = {}
    for number in range(count):
        model.update(zip(keys_of(seed, number), rows_of(seed, number), strict=True))
    return model


def check(store: VectorStore, child: Child) -> None:
    """All that was acknowledged is there, and at most one batch more, which is whole."""
    have = {key: store[key] for key in store if key.startswith(f"{child.seed}/")}
    for count in (child.next, child.next + 1):
        model = acknowledged(child.seed, count)
        if have.keys() == model.keys():
            assert all(have[key].tobytes() == model[key].tobytes() for key in have)
            child.next = count
            return
    raise AssertionError(f"{len(have)} keys after {child.next} batches")


def find(store: VectorStore, seed: int, number: int) -> None:
    """Rows of a batch, and what is not there any more is not found."""
    for key, row in list(zip(keys_of(seed, number), rows_of(seed, number), strict=True))[:3]:
        found = store.search(row, 1, ef_search=4_000, nprobe=1_000, candidates=4_000)[0]
        stored = store[key]
        assert np.array_equal(found.vector, row) == np.array_equal(stored, row), key


@contextlib.contextmanager
def running(path: Path) -> Iterator[Child]:
    child = Child(path, ALIVE, 0)
    try:
        yield child
    finally:
        child.kill()


@pytest.mark.timeout(60 + ROUND_S * ROUNDS)
def test_builders_are_killed_and_the_others_go_on(path: Path) -> None:
    dice, number, kept = random.Random(5), 0, 0
    with open_store(path) as store, running(path) as alive:
        for turn in range(ROUNDS):
            killed = Child(path, 1, number)
            killed.read_until(MOMENTS[turn % len(MOMENTS)])
            time.sleep(dice.uniform(0, 0.004))
            killed.kill()
            store.insert_batch(keys_of(2, turn), rows_of(2, turn))
            check(store, killed)
            number = killed.next
            find(store, 1, number - 1)
            find(store, 2, turn)
            store.build_index(KINDS[turn % 4], threads=1)
            assert store.index_saved
            find(store, 1, number - 1)
            alive.read_until("saved")
            if turn % 3 == 2:
                # As after a restart of this process, beside the others.
                with open_store(path) as again:
                    check(again, killed)
                    find(again, 2, turn)
                    kept += again.has_index
        assert kept == ROUNDS // 3, "an index that was saved is kept"
    with open_store(path) as store:
        check(store, killed)
        check(store, alive)
        assert acknowledged(2, ROUNDS).keys() <= set(store)
        assert store.has_index
        find(store, ALIVE, alive.next - 1)
        assert len(store) >= BATCH * ROUNDS
        assert store.verify()["ok"]
    left = sorted(beside.name for beside in path.parent.iterdir())
    assert left == [path.name, f"{path.name}-ckpt"], "no file in the making is left"
