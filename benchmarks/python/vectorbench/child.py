"""A process that holds one index of one library and does what it is told, a JSON line each.

    python -m vectorbench.child SPEC

It is started with the library's folder on the path, and pinned before anything is imported. What
a library prints goes to standard error; the answers are lines on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .adapter import Adapter, RefusedError
from .measure import pin, resident, resident_of, timed

K = 10


class Child:
    """The commands."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from .peers import CONTESTANTS
        from .sets import opened

        self.set = opened(Path(spec["set"]), spec["name"], spec["metric"])
        self.folder = Path(spec["folder"])
        self.adapter: Adapter = CONTESTANTS[spec["peer"]].adapter(
            self.set.metric, self.set.rows.shape[1], self.folder, spec["options"]
        )

    def do_build(self, threads: int) -> dict[str, Any]:
        """Fill, build, save; the seconds of the build alone."""
        rows = np.array(self.set.rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.adapter.fill(rows)
        before = resident()
        wall, cpu = timed(lambda: self.adapter.build(rows, threads))
        grown = resident() - before
        self.adapter.save()
        return {"wall_s": wall, "cpu_s": cpu, "rss_bytes": grown}

    def do_open(self) -> dict[str, Any]:
        """Open what was built."""
        before = resident()
        wall, _ = timed(lambda: self.adapter.open(self.set.rows))
        return {"wall_s": wall, "rss_bytes": resident() - before, "bytes": self.adapter.bytes()}

    def do_memory(self) -> dict[str, Any]:
        """What opening and searching add to the process, its mapped vectors left out."""
        before = resident()
        self.adapter.open(self.set.rows)
        self.adapter.set_search()
        self.adapter.search(self.set.queries, K)
        for query in self.set.queries[:200]:
            self.adapter.search_one(query, K)
        log = resident_of(self.folder / "store.db")
        return {
            "beside_bytes": resident() - before - log,
            "log_bytes": log,
            "index_bytes": self.adapter.bytes(),
        }

    def do_sweep(
        self, settings: list[dict[str, Any]], seconds: float, one_by_one: bool, recall: bool
    ) -> dict[str, Any]:
        """Rates, and recall where it is asked for, of each setting."""
        return {
            "points": [self.point(setting, seconds, one_by_one, recall) for setting in settings]
        }

    def point(
        self, setting: dict[str, Any], seconds: float, one_by_one: bool, recall: bool
    ) -> dict[str, Any]:
        """One setting: the best of the passes that fit into the seconds."""
        adapter, queries = self.adapter, self.set.queries
        adapter.set_search(**setting)
        start = time.perf_counter()
        adapter.search(queries[:20], K)
        each = (time.perf_counter() - start) / min(20, len(queries))
        count = int(min(len(queries), 1000, max(20, seconds / 2 / max(each, 1e-7))))
        found: dict[str, Any] = {"settings": setting}
        if recall:
            found["recall"] = self.recall(each)
        some = queries[:count]
        rates, stop = [], time.perf_counter() + seconds
        while not rates or time.perf_counter() < stop:
            wall, cpu = timed(
                (lambda: [adapter.search_one(query, K) for query in some])
                if one_by_one
                else (lambda: adapter.search(some, K))
            )
            rates.append((len(some) / max(cpu, 1e-9), len(some) / wall))
        found["per_cpu_s"], found["per_s"] = (max(kind) for kind in zip(*rates, strict=True))
        if one_by_one:
            found |= self.latency(some)
        return found

    def recall(self, each: float) -> float:
        """Recall over the queries, of a slow setting over as many as five seconds take."""
        from .sets import recall

        data = self.set
        count = int(min(len(data.queries), max(100, 5.0 / max(each, 1e-7))))
        found = self.adapter.ids(self.adapter.search(data.queries[:count], K), K)
        return recall(found, data.truth[: len(found)], data.distances[: len(found)], K)

    def latency(self, queries: Any) -> dict[str, float]:
        """Quantiles of single calls, in microseconds."""
        times = sorted(timed(lambda q=query: self.adapter.search_one(q, K))[0] for query in queries)
        return {
            "p50_us": times[len(times) // 2] * 1e6,
            "p99_us": times[int(len(times) * 0.99)] * 1e6,
        }


def main() -> None:
    """Answer until standard input ends."""
    spec = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    pin(spec["cpus"])
    child = None
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any]
        try:
            child = child or Child(spec)
            answer = getattr(child, "do_" + command.pop("do"))(**command)
        except RefusedError as error:
            answer = {"refused": str(error)}
        except Exception as error:  # a library may raise anything: the parent names it
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        answers.write(json.dumps(answer) + "\n")
    if child is not None:
        child.adapter.close()


if __name__ == "__main__":
    main()
