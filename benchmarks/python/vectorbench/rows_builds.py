"""Rows of building: our graph and gravity well beside hnswlib, with one thread and with two."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from .adapter import Configuration
from .curves import Rate, over_rounds
from .fleet import ChildError, Fleet, child, say
from .measure import idlest
from .peers import CONTESTANTS, OURS
from .plan import Part, Plan, settings_of
from .rows_curves import measured, points_of
from .sets import VectorSet
from .table import Row, number

BUILDERS = (
    (OURS, Configuration("hnsw", {"kind": "hnsw"}, ())),
    (OURS, Configuration("gravity_well", {"kind": "gravity_well"}, ())),
    (OURS, Configuration("flat", {"kind": "flat"}, ())),
    ("hnswlib", Configuration("M16", {"m": 16}, ())),
    ("rabitqlib", Configuration("symqg raw R32", {"degree": 32, "bits": 0}, ())),
)
THEM = "hnswlib M16"


def seconds_of(
    data: VectorSet, name: str, options: dict[str, Any], threads: int, plan: Plan
) -> float:
    """Wall-clock seconds of one build in a fresh process, on as many CPUs as it has threads."""
    cpus = [idlest()] if threads == 1 else sorted(os.sched_getaffinity(0))[:threads]
    with (
        tempfile.TemporaryDirectory(dir=plan.scratch()) as folder,
        child(CONTESTANTS[name], data, Path(folder), options, cpus) as builder,
    ):
        return float(builder.ask("build", threads=threads)["wall_s"])


def builds(plan: Plan) -> Part:
    """Each builder in each round, in a mixed order; ratios to hnswlib's time."""
    data = plan.load(plan.base)
    names, absent = plan.names((OURS, "hnswlib", "rabitqlib"))
    details = settings_of(plan, names, absent)
    if plan.prepare:
        return [], details
    counts = sorted({1, min(2, plan.threads)})
    seconds: dict[tuple[str, int], list[float]] = {}
    failed: dict[str, str] = {}
    shuffle = random.Random(7)
    tasks = [(n, one, t) for n, one in BUILDERS if n in names for t in counts]
    for number_of_round in range(1, plan.build_rounds + 1):
        for name, one, threads in shuffle.sample(tasks, len(tasks)):
            label = f"{name} {one.label}"
            say(f"build round {number_of_round}/{plan.build_rounds}: {label}, {threads} threads")
            try:
                took = seconds_of(data, name, one.build, threads, plan)
                seconds.setdefault((label, threads), []).append(took)
            except ChildError as error:
                failed[label] = str(error)
    times = {key: Rate(tuple(found)) for key, found in seconds.items()}
    rows = [row for threads in counts for row in rows_of(times, threads, absent)]
    level = curve_beside(plan, data, names)
    details |= {
        "failed": failed,
        "seconds": {
            f"{label}, {threads} threads": found for (label, threads), found in seconds.items()
        },
        "our graph's rate over hnswlib M16's": level,
    }
    for target, ratio in level.items():
        what = f"curve of the graph built so, @{target}"
        rows.append(Row(what, ratio, "x hnswlib M16", 1.0, note="'equal curve' of the build rows"))
    return rows, details


def rows_of(times: dict[tuple[str, int], Rate], threads: int, absent: dict[str, str]) -> list[Row]:
    """Rows of one number of threads."""
    them = times.get((THEM, threads))
    why = "" if them else absent.get("hnswlib", "hnswlib failed")
    plural = "1 thread" if threads == 1 else f"{threads} threads"
    rows = []
    for kind, floor, aim, is_share in (
        ("hnsw", 0.5, 1 / 3, True),
        ("gravity_well", 10.0, 15.0, False),
        ("flat", None, None, False),
    ):
        ours = times.get((f"{OURS} {kind}", threads))
        if ours is None:
            continue
        note = f"{number(ours.median)} s"
        unit = "of hnswlib's time" if is_share else "x faster"
        ratio = None
        if them:
            note += f"; hnswlib M16 {number(them.median)} s"
            ratio = ours.median / them.median if is_share else them.median / ours.median
        spread = ours.spread + (them.spread if them else 0.0)
        rows.append(
            Row(f"build {kind}, {plural}", ratio, unit, floor, aim, is_share, spread, note, why)
        )
    return rows


def curve_beside(plan: Plan, data: VectorSet, names: list[str]) -> dict[str, float]:
    """Our graph's rate over that of hnswlib M16 at three recalls, for what was timed."""
    if "hnswlib" not in names or OURS not in names:
        return {}
    wanted = (f"{OURS} hnsw", THEM)
    fleet: Fleet = plan.fleet(data, [OURS, "hnswlib"], lambda label: label in wanted)
    try:
        rounds = measured(plan, fleet, one_by_one=False)
    finally:
        fleet.close()
    found = {}
    for target in (0.90, 0.95, 0.99):
        ours, them = (over_rounds([points_of(r, w) for r in rounds], target) for w in wanted)
        if ours and them:
            found[f"{target:g}"] = ours.median / them.median
    return found
