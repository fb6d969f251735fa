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
ENOUGH = 0.9995
RECALL_S = 3.0
QUERIES = 1000
"""Queries of a pass."""

QUERIES_MIN = 100
SLOW_S = 5e-3


class Child:
    """The commands."""

    def __init__(self, spec: dict[str, Any]) -> None:
        from .peers import CONTESTANTS
        from .sets import opened

        self.whole = self.set = opened(Path(spec["set"]), spec["name"], spec["metric"])
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

    def do_allow(self, share: int, way: str) -> dict[str, Any]:
        """Search with a filter from now on, or with one for each query."""
        from .passing import Case, among

        case = Case(share, way)
        self.set = among(self.whole, case)
        self.adapter.allow(case)
        return {}

    def do_sweep(
        self,
        settings: list[dict[str, Any]],
        seconds: float,
        one_by_one: bool,
        recall: bool,
        keep: bool = False,
    ) -> dict[str, Any]:
        """Rates, and recall where it is asked for, of each setting.

        One parameter ascends, and is raised no further once nearly everything is found. Of single
        calls each answer is dropped before the next one, or all of a pass are kept.
        """
        points: list[dict[str, Any]] = []
        for setting in settings:
            points.append(self.point(setting, seconds, one_by_one, recall, keep))
            if len(setting) == 1 and points[-1].get("recall", 0.0) >= ENOUGH:
                break
        return {"points": points}

    def point(
        self, setting: dict[str, Any], seconds: float, one_by_one: bool, recall: bool, keep: bool
    ) -> dict[str, Any]:
        """One setting: the best of the passes that fit into the seconds."""
        adapter, queries = self.adapter, self.set.queries
        adapter.set_search(**setting)
        each = self.pace()
        count = int(min(QUERIES, max(QUERIES_MIN, 4 * seconds / max(each, 1e-7))))
        found: dict[str, Any] = {"settings": setting}
        if recall:
            found["recall"] = self.recall(each)
        some = spread(queries, count)
        rates, stop = [], time.perf_counter() + seconds
        while not rates or time.perf_counter() < stop:
            wall, cpu = timed(
                (lambda: self.singly(some, keep))
                if one_by_one
                else (lambda: adapter.search(some, K))
            )
            rates.append((len(some) / max(cpu, 1e-9), len(some) / wall))
        found["per_cpu_s"], found["per_s"] = (max(kind) for kind in zip(*rates, strict=True))
        if one_by_one:
            found |= self.latency(some)
        return found

    def singly(self, queries: Any, keep: bool) -> list[Any]:
        """One call a query; the answers that are kept."""
        if keep:
            return [self.adapter.search_one(query, K) for query in queries]
        for query in queries:
            self.adapter.search_one(query, K)
        return []

    def pace(self) -> float:
        """Seconds of one search, once the first have brought the memory near.

        All settings must search with the same queries, as far as they are fast enough: a pass over
        few stays in the caches, and its rate is that of no application.
        """
        for count in (20, 100):
            some = spread(self.set.queries, count)
            each = timed(lambda some=some: self.adapter.search(some, K))[0] / len(some)
            if each > SLOW_S:
                break
        return each

    def recall(self, each: float) -> float:
        """Recall over the queries, of a slow setting over as many as `RECALL_S` are enough for."""
        from .sets import recall

        data = self.set
        count = int(min(len(data.queries), max(200, RECALL_S / max(each, 1e-7))))
        queries, truth, distances = (
            spread(rows, count) for rows in (data.queries, data.truth, data.distances)
        )
        return recall(self.adapter.ids(self.adapter.search(queries, K), K), truth, distances, K)

    def latency(self, queries: Any) -> dict[str, float]:
        """Quantiles of single calls, in microseconds."""
        times = sorted(timed(lambda q=query: self.adapter.search_one(q, K))[0] for query in queries)
        return {
            "p50_us": times[len(times) // 2] * 1e6,
            "p99_us": times[int(len(times) * 0.99)] * 1e6,
        }


def spread(rows: Any, count: int) -> Any:
    """As many rows from the first to the last: a set begins with questions of one kind."""
    numbers = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return [rows[n] for n in numbers] if isinstance(rows, list) else rows[numbers]


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
