"""Several writers on one file: what sharing costs, what several get done, how long one waits.

    make bench-sharing

Each line is the median of several rounds, and what it is compared with is measured in the same
rounds, by turns. Exits with 1 when a floor is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frame import PEERS, RESULTS, ROOT, machine, now

WORKER = ROOT / "target" / "release" / "examples" / "sharing_worker"
SECONDS = 1.5
HEAD_START = 0.4
"""Seconds between the start of the processes and their first commit."""

PYTHON_WORKER = """
import sys, time
from synadb import SynaDB
path, seconds, begin, access = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
value = "v" * 64
with SynaDB(path, sync_on_write=False, access=access, lock_timeout=30) as db:
    keys = [f"key/{begin}/{id(db)}/{n}" for n in range(1000)]
    time.sleep(max(0.0, begin - time.time()))
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key in keys:
            db.put_text(key, value)
        count += len(keys)
    print('{"rate": %f}' % (count / (seconds + time.perf_counter() - end)))
"""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    what: str
    rounds: tuple[float, ...]
    floor: float
    aim: float
    unit: str
    at_most: bool = False

    @property
    def measured(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    @property
    def holds(self) -> bool:
        """Whether the floor is met."""
        return self.measured <= self.floor if self.at_most else self.measured >= self.floor


def answers(processes: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    """The last lines of processes that run side by side."""
    outputs = [process.communicate(timeout=120) for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("\n".join(output[1] or "" for output in outputs))
    return [json.loads(output[0].splitlines()[-1]) for output in outputs]


def started(command: list[str]) -> subprocess.Popen[str]:
    """A process whose output is read."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def rust(path: Path, begin: float, **how: str | int) -> subprocess.Popen[str]:
    """A worker in Rust."""
    job = {"threads": 1, "pause_us": 0, "durability": "none", "access": "shared"} | how
    words = [str(job[word]) for word in ("threads", "pause_us", "durability", "access")]
    return started([str(WORKER), str(path), str(SECONDS), f"{begin:.3f}", *words])


def python(path: Path, begin: float, access: str = "shared") -> subprocess.Popen[str]:
    """A worker in Python."""
    words = [str(path), str(SECONDS), f"{begin:.3f}", access]
    return started([sys.executable, "-c", PYTHON_WORKER, *words])


def together(workers: list[Callable[[float], subprocess.Popen[str]]]) -> list[dict[str, Any]]:
    """What workers say that begin at the same moment."""
    begin = time.time() + HEAD_START
    return answers([worker(begin) for worker in workers])


def rate(workers: list[Callable[[float], subprocess.Popen[str]]]) -> float:
    """Commits a second of all workers."""
    return sum(answer["rate"] for answer in together(workers))


def rocksdb(folder: Path, threads: int) -> float:
    """Synced puts a second of RocksDB, through its Python binding."""
    sys.path.insert(0, str(PEERS / "bench"))
    from rocksdict import Options, Rdict, WriteOptions

    options = Options(raw_mode=True)
    options.create_if_missing(True)
    database = Rdict(str(folder / "rocks"), options=options)
    synced = WriteOptions()
    synced.sync = True
    counts = [0] * threads
    end = time.perf_counter() + SECONDS

    def write(number: int) -> None:
        while time.perf_counter() < end:
            database.put(b"key/%d/%d" % (number, counts[number] % 1000), b"v" * 64, synced)
            counts[number] += 1

    workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    database.close()
    return sum(counts) / SECONDS


def one_round(folder: Path) -> dict[str, float]:
    """Every figure once."""
    files = iter(folder / f"{number}.db" for number in range(100))
    found: dict[str, float] = {}

    def fresh(make: Callable[..., subprocess.Popen[str]], count: int = 1, **how: Any) -> float:
        path = next(files)
        return rate([lambda begin: make(path, begin, **how)] * count)

    shared, alone = fresh(python), fresh(python, access="exclusive")
    found["shared / exclusive, Python"] = 100 * shared / alone
    for count in (2, 4):
        found[f"{count} processes, Rust"] = fresh(rust, count) / 1e3
    found["2 processes, Python"] = fresh(python, 2) / 1e3

    path = next(files)
    waiter = {"pause_us": 3000}
    _, busy = together([lambda b: rust(path, b), lambda b: rust(path, b, **waiter)])
    path = next(files)
    idle_holder = {"pause_us": 23_000}
    _, idle = together(
        [lambda b: rust(path, b, **idle_holder), lambda b: rust(path, b, pause_us=7000)]
    )
    found["wait on a busy holder, p99"] = busy["p99_us"] / 1e3
    found["wait on an idle holder, p99"] = idle["p99_us"] / 1e3

    plain = fresh(rust, durability="fdatasync")
    single = fresh(rust, durability="sync")
    found["synced put, 1 thread"] = plain / single
    found["synced puts, 16 threads"] = fresh(rust, threads=16, durability="sync") / single
    found["synced puts, 8 processes"] = fresh(rust, 8, durability="sync") / single
    found["synced puts a second, 16 threads"] = found["synced puts, 16 threads"] * single
    found["synced puts a second, RocksDB, 16 threads"] = rocksdb(folder, 16)
    return found


TABLE: list[tuple[str, float, float, str, bool]] = [
    ("shared / exclusive, Python", 85, 95, "%", False),
    ("2 processes, Rust", 600, 2000, "k commits/s", False),
    ("4 processes, Rust", 500, 1600, "k commits/s", False),
    ("2 processes, Python", 300, 1000, "k commits/s", False),
    ("wait on a busy holder, p99", 20, 0.5, "ms", True),
    ("wait on an idle holder, p99", 5, 0.2, "ms", True),
    ("synced put, 1 thread", 1.3, 1.1, "x store + fdatasync", True),
    ("synced puts, 16 threads", 3, 3, "x one thread", False),
    ("synced puts, 8 processes", 2, 2, "x one thread", False),
]


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--dir", type=Path, help="where the files lie; the default is a temporary folder"
    )
    arguments = parser.parse_args()
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-p", "synadb", "--example", "sharing_worker"],
        check=True,
        cwd=ROOT,
    )
    rounds = []
    for number in range(arguments.rounds):
        print(f"round {number + 1}/{arguments.rounds}", flush=True)
        with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
            rounds.append(one_round(Path(folder)))
    lines = [Line(row[0], tuple(r[row[0]] for r in rounds), *row[1:]) for row in TABLE]
    print(f"\n{'what':<34}{'measured':>10}{'floor':>8}{'aim':>8}")
    for line in lines:
        verdict = "ok" if line.holds else "MISSED"
        print(
            f"{line.what:<34}{line.measured:>10.2f}{line.floor:>8g}{line.aim:>8g}"
            f"  {line.unit:<20}{verdict}"
        )
    for what in ("synced puts a second, 16 threads", "synced puts a second, RocksDB, 16 threads"):
        print(f"{what:<44}{statistics.median(r[what] for r in rounds):>10.0f}")
    report = {"machine": machine(), "date": now(), "rounds": rounds}
    (RESULTS / "sharing.json").write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(0 if all(line.holds for line in lines) else 1)


if __name__ == "__main__":
    main()
