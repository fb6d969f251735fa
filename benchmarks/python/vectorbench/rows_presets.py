"""Rows of the presets of `CascadeIndex`: the recall that each promises, of real questions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from synadb import CascadeIndex

from .peers import OURS
from .plan import Part, Plan, settings_of
from .rows_stores import scratch
from .sets import VectorSet, load, recall
from .table import Row

PROMISED = {"small": 0.95, "large": 0.95, "high_recall": 0.99, "fast_search": 0.90}
"""The least recall@10 of each, as the original's table says."""

K = 10


def presets(plan: Plan) -> Part:
    """What each finds with the numbers that it sets, of a file that was closed and opened again."""
    details = settings_of(plan, [OURS], {})
    base = plan.load(plan.base)
    large = load(f"{plan.made}pairs-{plan.million}", queries=1000)
    if plan.prepare:
        return [], details
    asked = [(name, base) for name in PROMISED] + [("large", large)]
    rows, kept = [], {}
    for name, data in asked:
        with scratch(plan) as folder:
            found, per_s = searched(folder / f"{name}.cascade", name, data, plan.threads)
        what = f"cascade {name}, {len(data.rows):,} of {data.name}"
        kept[what] = {"recall": found, "queries/s": per_s}
        note = f"{per_s:,.0f} queries/s in one batch, one thread, by the clock"
        rows.append(Row(what, found, "recall@10", PROMISED[name], note=note))
    return rows, details | {"found": kept}


def searched(path: Path, preset: str, data: VectorSet, threads: int) -> tuple[float, float]:
    """The recall of a preset and its queries a second."""
    rows = np.asarray(data.rows)
    metric = {"ip": "cosine", "l2": "euclidean"}[data.metric]
    options: dict[str, Any] = {"preset": preset, "metric": metric, "sync_on_write": False}
    with CascadeIndex(path, rows.shape[1], **options) as store:
        store.insert_batch([str(number) for number in range(len(rows))], rows)
        store.build_index(threads=threads)
    with CascadeIndex(path, rows.shape[1], **options) as store:
        stats = store.index_stats()
        assert stats is not None, "the index was not saved"
        assert (stats["kind"], stats["rows"], stats["tail"]) == ("cascade", len(rows), 0)
        store.search_batch(data.queries, K, threads=1)
        start = time.perf_counter()
        answers = store.search_batch(data.queries, K, threads=1)
        took = time.perf_counter() - start
    ids = np.array([[int(hit.key) for hit in hits] for hits in answers])
    return recall(ids, data.truth, data.distances, K), len(answers) / took
