"""Rows beside the original synadb at its best, on as many rows as it builds an index of in minutes.

Its graphs take no parameter of a search, so that each has one recall: the ratio is that of our best
index at the same recall, one search a call. Everything of it that reached a recall takes part.
"""

from __future__ import annotations

import json
from typing import Any

from .curves import Rate, over_rounds
from .fleet import Fleet
from .peers import OURS
from .plan import Part, Plan, is_no_scan, settings_of
from .rows_curves import best, kept_curves, measured, points_of, ratio_row
from .table import Row, number

ROWS = 20_000
ORIGINAL = "original"
RECALL_MIN = 0.5
KINDS = {"hnsw": ("mmap", "vector"), "gravity_well": ("gravity_well",)}
"""Which of its indexes each of ours is built in place of."""


def original(plan: Plan) -> Part:
    """Searches at the recalls that its indexes reach, and builds."""
    data = plan.load(plan.base, ROWS)
    names, absent = plan.names((OURS, ORIGINAL))
    details: dict[str, Any] = settings_of(plan, names, absent) | {"rows": len(data.rows)}
    fleet = plan.fleet(data, names, is_no_scan)
    try:
        if plan.prepare:
            return [], details | {"failed": fleet.failed}
        fleet.targets = lambda: recalls_of(fleet)
        rounds = measured(plan, fleet, one_by_one=True)
        seconds = {
            held.label: float(json.loads((held.folder / "built.json").read_text())["wall_s"])
            for held in fleet.held
        }
    finally:
        fleet.close()
    targets = recalls_of(fleet)
    rates: dict[str, dict[float, Rate | None]] = {
        name: {at: over_rounds([points_of(one, name) for one in rounds], at) for at in targets}
        for name in (OURS, ORIGINAL)
    }
    rows = [
        ratio_row(f"beside the original @{at:.3f}, one search a call", rates[OURS][at],
                  best(rates, [ORIGINAL], at), None, why=absent.get(ORIGINAL, ""))
        for at in targets
    ]  # fmt: skip
    rows += [row for kind, of in KINDS.items() for row in build_rows(kind, of, seconds)]
    return rows, details | {
        "failed": fleet.failed, "seconds": seconds, "searches": kept_curves(fleet, rates, rounds)
    }  # fmt: skip


def recalls_of(fleet: Fleet) -> list[float]:
    """Recalls that the original reached, those above a half."""
    found = {point.recall for point in points_of(fleet.tried, ORIGINAL)}
    return sorted(recall for recall in found if recall >= RECALL_MIN)


def build_rows(kind: str, theirs: tuple[str, ...], seconds: dict[str, float]) -> list[Row]:
    """One build of ours beside each of the original's."""
    ours = seconds.get(f"{OURS} {kind}")
    rows = []
    for name in theirs:
        them = seconds.get(f"{ORIGINAL} {name}")
        if ours and them:
            note = f"{number(ours)} s and {number(them)} s"
            rows.append(Row(f"build {kind} beside {name}", them / ours, "x faster", note=note))
    return rows
