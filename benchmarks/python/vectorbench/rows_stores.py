"""Rows of a store's life: batches in, single inserts beside searches, memory, reopening, calls."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from speed_floors import plain_write

from synadb import VectorStore

from .curves import Rate
from .fleet import ChildError, built, child
from .measure import idlest
from .peers import CONTESTANTS, OURS
from .plan import Part, Plan, settings_of
from .sets import load
from .table import Row, number

HERE = Path(__file__).resolve().parent
WIDE_ROWS = 100_000


@contextmanager
def scratch(plan: Plan) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=plan.scratch()) as name:
        yield Path(name)


def details_of(plan: Plan) -> dict[str, Any]:
    """What a part without peers keeps."""
    return settings_of(plan, [OURS], {})


def configuration(kind: str, rows: int) -> Any:
    """Our configuration of a kind."""
    found = CONTESTANTS[OURS].adapter.configurations("ip", 0, rows)
    return next(one for one in found if one.label == kind)


def inserts(plan: Plan) -> Part:
    """`insert_batch` of 768 dimensions beside pwritev of the same bytes."""
    data = plan.load(plan.base)
    half = np.asarray(data.rows)
    rows = np.ascontiguousarray(np.hstack([half, np.roll(half, -1, axis=0)])[:WIDE_ROWS])
    keys = [f"row:{number:06d}" for number in range(len(rows))]
    ours, plain = [], []
    with scratch(plan) as folder:
        for _ in range(0 if plan.prepare else plan.rounds):
            plain.append(plain_write(folder / "plain", rows))
            ours.append(seconds_of_batch(folder / "ingest.db", keys, rows))
    if plan.prepare:
        return [], details_of(plan)
    shares = Rate(tuple(100 * p / o for p, o in zip(plain, ours, strict=True)))
    rates = Rate(tuple(len(rows) / seconds for seconds in ours))
    what = f"insert_batch {len(rows):,} x {rows.shape[1]}, no sync"
    note = f"{rows.nbytes / statistics.median(ours) / 1e9:.2f} GB/s"
    found = [
        Row(what, shares.median, "% of pwritev", 50.0, 70.0, spread=shares.spread, note=note),
        Row(what, rates.median, "vectors/s", None, 490_000.0, spread=rates.spread),
    ]
    return found, details_of(plan) | {"seconds": ours, "seconds of pwritev": plain}


def seconds_of_batch(path: Path, keys: list[str], rows: Any) -> float:
    """Wall-clock seconds of one `insert_batch` into a new store, which is removed."""
    with VectorStore(path, dimensions=rows.shape[1], sync_on_write=False) as store:
        gc.collect()
        start = time.perf_counter()
        assert store.insert_batch(keys, rows) == len(keys)
        took = time.perf_counter() - start
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    return took


STREAMS = ((60_000.0, 10.0, 5.0), (100_000.0, None, 5.0), (0.0, None, None))
"""Inserts a second, 0 for as many as may be; floor and aim of the searches beside them, in ms."""

KEPT_PACE = 0.97


def stream(plan: Plan) -> Part:
    """`insert` one by one while another process, or a thread, searches: paced, and flat out."""
    data = plan.load(plan.base)
    details = details_of(plan) | {"searcher": plan.searcher, "seconds": plan.stream_s}
    if plan.prepare:
        return [], details
    rows, kept = [], {}
    for rate, floor, aim in STREAMS:
        found = kept[f"{rate:g}"] = streamed(plan, data.folder, rate)
        note = f"{found['inserted']:,} inserted, {found['per_s']:,.0f}/s; index: {found['index']}"
        if not rate:
            name = f"insert one by one for {plan.stream_s:g} s"
            rows.append(Row(name, found["per_s"], "inserts/s", 60_000, 100_000, note=note))
        what = f"searches beside {rate:,.0f} inserts/s, p99" if rate else "beside these, p99"
        if found["per_s"] < KEPT_PACE * rate:
            rows.append(Row(what, None, "ms", floor, aim, at_most=True, note=note))
            continue
        note = f"p50 {found['p50_ms']:.2f} ms of {found['searches']:,} by a {plan.searcher}, "
        note += f"longest {found['max_ms']:.0f} ms; {found['per_s']:,.0f} inserts/s"
        rows.append(Row(what, found["p99_ms"], "ms", floor, aim, at_most=True, note=note))
    return rows, details | {"found": kept}


def streamed(plan: Plan, data: Path, rate: float) -> dict[str, Any]:
    """What a process that inserts, and starts the searcher, found; raises `ChildError`."""
    with scratch(plan) as folder:
        command = [sys.executable, "-m", "vectorbench.stream", "write", str(data)]
        command += [str(folder / "stream.db"), str(plan.stream_s), plan.searcher, str(rate)]
        done = subprocess.run(
            command, env=dict(os.environ, PYTHONPATH=str(HERE.parent)), capture_output=True,
            text=True, check=False, timeout=plan.stream_s * 4 + 240,
        )  # fmt: skip
    if done.returncode:
        raise ChildError(done.stderr.strip()[-400:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory(plan: Plan) -> Part:
    """What a reopened and searched store takes beside its mapped vectors."""
    data = plan.load(plan.base)
    raw = data.rows.shape[0] * data.rows.shape[1] * 4
    rows, kept = [], {}
    peer = CONTESTANTS[OURS]
    for kind, what, floor, aim in (
        ("flat", "default index", 0.6, 0.4),
        ("hnsw", "graph", 2.0, 1.6),
        ("gravity_well", "gravity well", None, None),
    ):
        one = configuration(kind, len(data.rows))
        folder = built(peer, one, data, plan.threads)
        if plan.prepare:
            continue
        with child(peer, data, folder, one.build, [idlest()]) as process:
            found = process.ask("memory")
        kept[kind] = found
        note = (
            f"index says {found['index_bytes'] / raw:.2f}x; log resident {found['log_bytes']:,} B"
        )
        name = f"memory beside the vectors: {what}"
        rows.append(
            Row(name, found["beside_bytes"] / raw, "x raw bytes", floor, aim, True, note=note)
        )
    return rows, details_of(plan) | {"bytes": kept, "raw bytes": raw}


REOPEN = """
import json, sys, time
import numpy as np, synadb
query = np.load(sys.argv[2])[int(sys.argv[3])]
start = time.perf_counter()
store = synadb.VectorStore(sys.argv[1])
opened = time.perf_counter()
found = store.search(query, k=10)
searched = time.perf_counter()
again = store.search(query, k=10)
assert len(found) == 10 and store.has_index
print(json.dumps([(opened - start) * 1e3, (searched - start) * 1e3]))
store.close()
"""


def reopen(plan: Plan) -> Part:
    """A built store of a million vectors of 128 dimensions, opened by fresh processes."""
    data = load(f"{plan.made}narrow-{plan.million}", queries=200)
    peer, rows, kept = CONTESTANTS[OURS], [], {}
    for kind, floor, aim in (("gravity_well", 200.0, 50.0), ("flat", None, None)):
        folder = built(peer, configuration(kind, len(data.rows)), data, plan.threads)
        if plan.prepare:
            continue
        command = [sys.executable, "-c", REOPEN, str(folder / "store.db")]
        command.append(str(data.folder / "queries.npy"))
        times = []
        for turn in range(plan.rounds + 1):
            done = subprocess.run(
                [*command, str(turn)], capture_output=True, text=True, check=True, timeout=120
            )
            times.append(json.loads(done.stdout))
        kept[kind] = times
        opened, searched = (Rate(column) for column in zip(*times[1:], strict=True))
        what = f"reopen {len(data.rows):,} x 128, {kind}"
        rows.append(Row(what, opened.median, "ms", floor, aim, True, opened.spread))
        rows.append(Row(f"{what}, and a query", searched.median, "ms", spread=searched.spread))
    return rows, details_of(plan) | {"ms": kept}


def overhead(plan: Plan) -> Part:
    """A call of `search` beside the same search within a batch, on the demo's store."""
    data = load("demo", queries=1000)
    peer, one = CONTESTANTS[OURS], configuration("hnsw", len(data.rows))
    folder = built(peer, one, data, plan.threads)
    if plan.prepare:
        return [], details_of(plan)
    calls = {"dropped": (True, False), "kept": (True, True), "batch": (False, False)}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    with child(peer, data, folder, one.build, [idlest()]) as process:
        process.ask("open")
        for _ in range(max(3, plan.rounds)):
            for name, (is_single, keep) in calls.items():
                points = process.ask(
                    "sweep", settings=[{"ef_search": 10}], seconds=plan.seconds,
                    one_by_one=is_single, recall=False, keep=keep,
                )["points"]  # fmt: skip
                spent[name].append(1e6 / points[0]["per_cpu_s"])
    what = "call overhead beyond the engine"
    rows = [
        beyond(what, spent["dropped"], spent["batch"], (6.0, 3.0)),
        beyond(f"{what}, every answer kept", spent["kept"], spent["batch"], (None, None)),
    ]
    return rows, details_of(plan) | {"us a search": spent}


def beyond(
    what: str, singles: list[float], batches: list[float], asked: tuple[float | None, float | None]
) -> Row:
    """What a call takes longer than a search of a batch, in microseconds."""
    more = [single - batch for single, batch in zip(singles, batches, strict=True)]
    middle = statistics.median(more)
    note = f"single call {number(statistics.median(singles))} us, of a batch "
    note += f"{number(statistics.median(batches))} us"
    spread = (max(more) - min(more)) / 2 / abs(middle)
    return Row(what, middle, "us", *asked, True, spread, note)
