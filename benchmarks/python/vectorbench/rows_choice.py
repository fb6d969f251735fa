"""Rows of what a store chooses for itself by its size: no index, codes, or an inverted file."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from synadb import VectorStore

from .peers import OURS
from .plan import Part, Plan, settings_of
from .rows_stores import scratch
from .sets import load
from .table import Row

SIZES = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 400_000, 1_000_000)
QUERIES = 200
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "flat": {},
    "gravity_well": {"target_recall": 0.994},
}
"""What a store chooses of; it tunes its inverted file to that recall, on a sample of its own."""

PASSES = 3


def choice(plan: Plan) -> Part:
    """Processor time of one query a call, the least of three passes; averages of two passages."""
    details = settings_of(plan, [OURS], {})
    data = load(f"{plan.made}pairs-{plan.million}", queries=1000)
    if plan.prepare:
        return [], details
    rows, kept = [], {}
    for size in (size for size in SIZES if size <= len(data.rows)):
        vectors = np.ascontiguousarray(data.rows[:size])
        with scratch(plan) as folder:
            path = folder / "choice.db"
            with VectorStore(path, vectors.shape[1], sync_on_write=False) as store:
                store.insert_batch([str(number) for number in range(size)], vectors)
            kept[str(size)] = found = of_size(path, data.queries[:QUERIES], plan.threads)
        for kind, numbers in found.items():
            note = f"{numbers['recall']:.3f} of the ten nearest; build {numbers['build_s']:.2f} s"
            rows.append(Row(f"{size:,} vectors, {kind}", numbers["us"], "us a query", note=note))
    return rows, details | {"found": kept}


def of_size(path: Any, queries: Any, threads: int) -> dict[str, dict[str, float]]:
    """What each kind of search takes and finds in one store, reopened after each build."""
    found: dict[str, dict[str, float]] = {}
    truth: list[set[str]] = []
    for kind, parameters in KINDS.items():
        # One that builds another index by itself meanwhile would be searched in the place of this.
        options: dict[str, Any] = {"sync_on_write": False, "index_threshold": 1 << 40}
        with VectorStore(path, **options) as store:
            start = time.perf_counter()
            store.build_index(kind, threads=threads, **parameters)
            built = time.perf_counter() - start
        with VectorStore(path, **options) as store:
            stats = store.index_stats()
            assert (stats["kind"] if stats else "none") == kind, "the index was not saved"
            answers = [store.search(query, 10) for query in queries]
            best = min(seconds_of(store, queries) for _ in range(PASSES))
        keys = [{hit.key for hit in hits} for hits in answers]
        truth = truth or keys
        hits = sum(len(a & b) for a, b in zip(truth, keys, strict=True))
        recall = hits / sum(map(len, truth))
        found[kind] = {"us": 1e6 * best / len(queries), "recall": recall, "build_s": built}
    return found


def seconds_of(store: VectorStore, queries: Any) -> float:
    """Processor seconds of one search for each query."""
    start = time.process_time()
    for query in queries:
        store.search(query, 10)
    return time.process_time() - start
