"""The demo's step with several writers: two processes commit to one file at once."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from synadb.demo import Corpus

WRITERS = 2

TABLE = "vector:writers/"
"""The store that both write to, in the demo's file."""

LOG = "writers/log"
"""A key that both append to: with each commit the number of its writer and its own."""

STEP = 1_000_000
"""What one writer's numbers are apart from the other's in `LOG`."""

MEET_WAIT_S = 30.0
"""Seconds after which a writer that has seen nothing of the other gives up."""


def two_writers(path: Path, folder: Path, corpus: Corpus) -> None:
    """Let two processes commit every passage each, at once, and check what both have written.

    A commit is a passage's text, its vector and a line in a history that both append to. Raises
    `SystemExit` unless every commit of both is there, whole and in the order it was made.
    """
    children = [_start(path, folder, number) for number in range(WRITERS)]
    for child in children:
        if _line(child) != "ready":
            raise SystemExit("demo: a writer did not start")
    start = time.perf_counter()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    reports = [child.communicate(timeout=4 * MEET_WAIT_S)[0] for child in children]
    seconds = time.perf_counter() - start
    for number, (child, report) in enumerate(zip(children, reports, strict=True)):
        if child.returncode:
            raise SystemExit(f"demo: writer {number} failed with status {child.returncode}")
        print(f"writer {number}: {report.strip()}")
    _check(path, corpus, seconds)


def _check(path: Path, corpus: Corpus, seconds: float) -> None:
    """Print the rate of both writers together, and leave unless all that they did is there."""
    count = len(corpus.passages)
    with SynaDB(path) as database, VectorStore(database, name=TABLE) as store:
        log = [int(entry) for entry in database.history(LOG)]
        for number in range(WRITERS):
            mine = [entry % STEP for entry in log if entry // STEP == number]
            _expect(mine == list(range(count)), f"every commit of writer {number}, in its order")
            commits = [database.version(_key(number, row)) or 0 for row in range(count)]
            _expect(commits == sorted(set(commits)), f"the texts of writer {number} in order")
        missing = [
            _key(number, row)
            for number in range(WRITERS)
            for row, passage in enumerate(corpus.passages)
            if database.get_text(_key(number, row)) != passage["text"]
            or (vector := store.get(_key(number, row))) is None
            or vector.tobytes() != corpus.vectors[row].tobytes()
        ]
        _expect(not missing, f"each commit whole, {missing[:1]} too")
        _expect(len(store) == len(log) == WRITERS * count, "nothing that nobody wrote")
    turns = sum(a // STEP != b // STEP for a, b in pairwise(log))
    _expect(turns >= WRITERS, "both wrote at once")
    rate = len(log) / seconds
    print(f"together: {len(log):,} commits in {seconds:.3f} s ({rate:,.0f}/s)")
    print(f"one wrote after the other {turns:,} times")
    print(f"found every commit of both whole and in order: {len(log):,} texts and vectors")


def _expect(condition: bool, claim: str) -> None:
    if not condition:
        raise SystemExit(f"demo: not true of two writers: {claim}")


def _key(number: int, row: int) -> str:
    return f"writer/{number}/{row}"


def _start(path: Path, folder: Path, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "synadb._demo_writers", str(path), str(folder), str(number)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _write(path: Path, folder: Path, number: int) -> None:
    """Commit every passage, and half way see to it that the other writer has begun."""
    from synadb.demo import Corpus

    corpus = Corpus(folder)
    count = len(corpus.passages)
    with (
        SynaDB(path, sync_on_write=False) as database,
        VectorStore(database, corpus.vectors.shape[1], name=TABLE) as store,
    ):
        print("ready", flush=True)
        sys.stdin.readline()
        waited, start = 0.0, time.perf_counter()
        for row, passage in enumerate(corpus.passages):
            if row == count // 2:
                waited = _meet(database, (number + 1) % WRITERS)
            with database.batch() as batch:
                batch.put_text(_key(number, row), passage["text"])
                batch.insert(store, _key(number, row), corpus.vectors[row])
                batch.put_int(LOG, number * STEP + row)
        seconds = time.perf_counter() - start - waited
    print(f"{count:,} commits in {seconds:.3f} s ({count / seconds:,.0f}/s)")


def _meet(database: SynaDB, other: int) -> float:
    """Wait until the other writer's first commit is there; the seconds that this took."""
    start = time.perf_counter()
    while not database.exists(_key(other, 0)):
        if time.perf_counter() - start > MEET_WAIT_S:
            raise SystemExit(f"demo: writer {other} wrote nothing")
        time.sleep(0.001)
    return time.perf_counter() - start


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
