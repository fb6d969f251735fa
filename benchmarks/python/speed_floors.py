"""The speed floors of the first slice, each measured beside what it is compared with.

    make bench-floors

SYNADB_DATA_WIKI may name the folder of the wiki embeddings (wiki-minilm-384-i8.npz); without it
random vectors of unit length are used. Exits with 1 when a floor is missed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kv
import numpy as np
import numpy.typing as npt
from frame import RESULTS, machine, now

from synadb import SynaDB, VectorStore

ROWS = 100_000
DIMENSIONS = 384
FLOATS = 1_000_000
KEYS = 1_000_000
SERIES = 16
WRITE_BYTES = 1 << 20
CALL_ROUNDS = 3

OPEN_SCRIPT = """
import sys, time
from synadb import SynaDB
start = time.perf_counter()
database = SynaDB(sys.argv[1])
text = database.get_text("key:000000500000")
print((time.perf_counter() - start) * 1000)
assert text == "text of 500000", text
database.close()
"""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    measured: float
    floor: float
    unit: str
    smaller_is_better: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the floor is met."""
        if self.smaller_is_better:
            return self.measured <= self.floor
        return self.measured >= self.floor


def seconds_of(act: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def median_of(act: Callable[[], object], rounds: int) -> float:
    """The median of several calls, after one that warms up."""
    act()
    gc.collect()
    return statistics.median(seconds_of(act) for _ in range(rounds))


def single_calls(rounds: int) -> list[Line]:
    """Puts beside rocksdict and gets beside LMDB, in one interleaved run.

    A get of either waits for memory most of its time, and how long that takes depends on who else
    uses it: a fifth up or down from one round to the next, so the median is of many.
    """
    figures = kv.measure({"synadb", "rocksdict", "lmdb"}, CALL_ROUNDS * rounds, 1.0)
    put, get = figures[kv.PUT], figures[kv.GET]
    for workload in (put, get):
        print({name: round(figure.median) for name, figure in workload.items()}, flush=True)
    return [
        Line("put_text 64 B", put["synadb"].median / put["rocksdict"].median, 2.0, "x rocksdict"),
        Line("get_text 64 B", get["synadb"].median / get["lmdb"].median, 1.5, "x LMDB"),
    ]


def histories(folder: Path, rounds: int) -> list[Line]:
    """Reading 1 M floats appended as an array, and one by one among 16 keys."""
    walk = np.round(np.cumsum(np.random.default_rng(3).normal(size=FLOATS)), 2)
    names = [f"series/{number}" for number in range(SERIES)]
    with SynaDB(folder / "history.db", sync_on_write=False) as database:
        database.append_many("whole", walk)
        for number, value in enumerate(walk.tolist()):
            database.put_float(names[number % SERIES], value)
    with SynaDB(folder / "history.db") as database:
        assert np.array_equal(database.get_history_tensor("whole"), walk)
        assert np.array_equal(database.get_history_tensor(names[1]), walk[1::SERIES])
        first = seconds_of(lambda: [database.get_history_tensor(n) for n in names[2:]])
        print(f"first read of {SERIES - 2} series after opening: {first * 1e3:.2f} ms", flush=True)
        whole = median_of(lambda: database.get_history_tensor("whole"), 4 * rounds + 1)
        parts = median_of(lambda: [database.get_history_tensor(n) for n in names], 2 * rounds + 1)
    return [
        Line("history by append_many", 8 * FLOATS / whole / 1e9, 1.0, "GB/s"),
        Line("history one by one, 16 keys", FLOATS / parts / 1e6, 20.0, "M values/s"),
    ]


def opening(folder: Path, rounds: int) -> Line:
    """From a clean close to the first get of a process that opens 1 M keys."""
    path = folder / "open.db"
    with SynaDB(path, sync_on_write=False) as database:
        for start in range(0, KEYS, 10_000):
            numbers = range(start, start + 10_000)
            database.put_many({f"key:{n:012d}": f"text of {n}" for n in numbers})
    command = [sys.executable, "-c", OPEN_SCRIPT, str(path)]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(rounds)
    ]
    times = [float(run.stdout) for run in runs]
    return Line("open 1 M keys to first get", statistics.median(times), 150.0, "ms", True)


def vectors() -> npt.NDArray[np.float32]:
    """100,000 rows of unit length: real ones where they are at hand."""
    folder = os.environ.get("SYNADB_DATA_WIKI")
    if folder:
        with np.load(Path(folder) / "wiki-minilm-384-i8.npz") as arrays:
            rows = arrays["base_i8"].astype(np.float32)
    else:
        rows = np.random.default_rng(5).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def plain_write(path: Path, rows: npt.NDArray[np.float32]) -> float:
    """Seconds to write the rows by pwritev of 1 MiB into newly allocated space."""
    payload = memoryview(rows).cast("B")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        start = time.perf_counter()
        os.posix_fallocate(descriptor, 0, len(payload))
        for offset in range(0, len(payload), WRITE_BYTES):
            os.pwritev(descriptor, [payload[offset : offset + WRITE_BYTES]], offset)
        return time.perf_counter() - start
    finally:
        os.close(descriptor)
        path.unlink()


def ingest(folder: Path, rows: npt.NDArray[np.float32], rounds: int) -> Line:
    """insert_batch of all rows beside a plain write of the same bytes, by turns."""
    keys = [f"row:{number:06d}" for number in range(len(rows))]
    ours, plain = [], []
    for number in range(rounds):
        plain.append(plain_write(folder / f"plain-{number}", rows))
        path = folder / f"ingest-{number}.db"
        with VectorStore(path, dimensions=rows.shape[1], sync_on_write=False) as store:
            gc.collect()
            start = time.perf_counter()
            assert store.insert_batch(keys, rows) == len(keys)
            ours.append(time.perf_counter() - start)
        if number:
            path.unlink()
    share = 100 * statistics.median(plain) / statistics.median(ours)
    print(f"insert_batch {rows.nbytes / statistics.median(ours) / 1e9:.2f} GB/s", flush=True)
    return Line("insert_batch 100,000 x 384", share, 50.0, "% of pwritev")


def flat_search(path: Path, rows: npt.NDArray[np.float32], rounds: int) -> Line:
    """An exact search over the mapped log beside the fastest pass over the same bytes."""
    queries = rows[:: len(rows) // 64] + np.float32(0.01)
    output = np.empty(len(rows), dtype=np.float32)
    passes = {
        "max": lambda: rows.max(),
        "product": lambda: np.dot(rows, queries[0], out=output),
    }
    with VectorStore(path, rows.shape[1], backend="flat") as store:
        exact = np.argsort(-(rows @ queries[1]) / np.linalg.norm(queries[1]), kind="stable")[:10]
        assert [hit.key for hit in store.search(queries[1], k=10)] == [
            f"row:{n:06d}" for n in exact
        ]
        search, memory = [], []
        for number in range(8 * rounds):
            query = queries[number % len(queries)]
            search.append(seconds_of(lambda query=query: store.search(query, k=10)))
            memory.append(min(seconds_of(act) for act in passes.values()))
    one, two = statistics.median(search), statistics.median(memory)
    print(f"search {one * 1e3:.2f} ms, one pass {two * 1e3:.2f} ms", flush=True)
    return Line("flat search 100,000 x 384", one / two, 1.5, "x one pass", True)


def main() -> None:
    """Measure, print, keep, and fail where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    lines = single_calls(rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines += histories(folder, rounds)
        lines.append(opening(folder, rounds))
        rows = vectors()
        inserted = ingest(folder, rows, rounds)
        lines += [flat_search(folder / "ingest-0.db", rows, rounds), inserted]
    print(f"\n{'what':<30}{'measured':>10}{'floor':>10}")
    for line in lines:
        verdict = "ok" if line.is_met else "MISSED"
        print(f"{line.what:<30}{line.measured:>10.2f}{line.floor:>10.2f}  {line.unit:<14}{verdict}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {"date": now(), "machine": machine(), "lines": [vars(line) for line in lines]}
    (RESULTS / "speed_floors.json").write_text(json.dumps(kept, indent=1) + "\n")
    raise SystemExit(any(not line.is_met for line in lines))


if __name__ == "__main__":
    main()
