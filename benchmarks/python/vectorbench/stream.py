"""Single inserts for some seconds, and searches meanwhile by another process or a thread.

python -m vectorbench.stream write SET STORE SECONDS SEARCHER RATE
python -m vectorbench.stream search SET STORE SECONDS
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import synadb

START_ROWS = 20_000
PAUSE_S = 0.005
"""Between two searches: a steady client, not a load that takes a processor by itself."""

CHECK_EVERY = 64
"""Inserts between two looks at the clock."""


def search(store: synadb.VectorStore, queries: Any, seconds: float) -> list[float]:
    """Milliseconds of each search until the time is over."""
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while (start := time.perf_counter()) < stop:
        found = store.search(queries[len(times) % len(queries)], k=10)
        times.append((time.perf_counter() - start) * 1e3)
        assert len(found) == 10
        time.sleep(PAUSE_S)
    return times


def insert(
    store: synadb.VectorStore, rows: list[Any], seconds: float, rate: float
) -> tuple[int, float]:
    """Inserts one by one under new keys; how many, and in how many seconds.

    A rate above 0 is kept by sleeping, in steps of `CHECK_EVERY`; 0 inserts as fast as may be.
    """
    count, start = 0, time.perf_counter()
    stop, width = start + seconds, len(rows)
    put = store.insert
    while (now := time.perf_counter()) < stop:
        if rate and count > (now - start) * rate:
            time.sleep(count / rate - (now - start))
        for _ in range(CHECK_EVERY):
            put(f"new:{count}", rows[count % width])
            count += 1
    return count, time.perf_counter() - start


def write(data: Path, path: Path, seconds: float, searcher: str, rate: float) -> dict[str, Any]:
    """A store with an index, then the stream beside a searcher."""
    rows = np.array(np.load(data / "rows.npy", mmap_mode="r"))
    queries = np.load(data / "queries.npy")
    first = rows[: max(len(rows) // 5, min(len(rows), START_ROWS))]
    with synadb.VectorStore(path, rows.shape[1], sync_on_write=False) as store:
        store.insert_batch([str(number) for number in range(len(first))], first)
        store.build_index("gravity_well")
        times: list[float] = []
        if searcher == "thread":
            thread = threading.Thread(
                target=lambda: times.extend(search(store, queries, seconds)), daemon=True
            )
            thread.start()
            count, took = insert(store, list(rows), seconds, rate)
            thread.join(seconds + 60)
        else:
            command = [sys.executable, "-m", "vectorbench.stream", "search", str(data), str(path)]
            process = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            count, took = insert(store, list(rows), seconds, rate)
            times = json.loads(process.communicate(timeout=120)[0])
        return {
            "inserted": count, "per_s": count / took, "searches": len(times),
            "p50_ms": float(np.quantile(times, 0.5)), "p99_ms": float(np.quantile(times, 0.99)),
            "max_ms": max(times), "index": store.index_stats(),
        }  # fmt: skip


def main() -> None:
    """Write or search, and print what was found."""
    do, data, path, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    if do == "write":
        searcher, rate = sys.argv[5], float(sys.argv[6])
        print(json.dumps(write(data, path, float(seconds), searcher, rate)))
        return
    queries = np.load(data / "queries.npy")
    with synadb.VectorStore(path, sync_on_write=False) as store:
        store.search(queries[0], k=10)
        print("ready", flush=True)
        print(json.dumps(search(store, queries, float(seconds))))


if __name__ == "__main__":
    main()
