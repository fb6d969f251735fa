"""Rows of growth: a million vectors beside a hundred thousand of the same kind, at equal recall."""

from __future__ import annotations

import json

from .curves import over_rounds
from .fleet import Fleet
from .peers import OURS
from .plan import Part, Plan, settings_of
from .rows_curves import measured, points_of
from .sets import MILLION_SEED, VectorSet, load
from .table import Row, number

LIMITS = {"gravity_well": (6.0, 4.0), "hnsw": (3.0, 2.5)}
TARGET = 0.95
SHARE = 10
LINEAR = 1.2
"""How much longer than in proportion a build may take and still be called linear."""


def fleet_of(plan: Plan, data: VectorSet) -> Fleet:
    """Our inverted file and our graph."""
    wanted = {f"{OURS} {kind}" for kind in LIMITS}
    return plan.fleet(data, [OURS], wanted.__contains__)


def million(plan: Plan) -> Part:
    """The slow-down of searches and of builds from a tenth of the rows to all of them."""
    name = f"{plan.made}pairs-{plan.million}"
    large = load(name, queries=1000)
    small = load(name, plan.million // SHARE, 1000)
    details = settings_of(plan, [OURS], {}) | {"rows": plan.million, "seed": MILLION_SEED}
    rates, seconds = {}, {}
    fleets = [fleet_of(plan, data) for data in (small, large)]
    try:
        if plan.prepare:
            return [], details
        for size, fleet in zip(("small", "large"), fleets, strict=True):
            rounds = measured(plan, fleet, one_by_one=False)
            for held in fleet.held:
                kind = held.configuration.label
                points = [points_of(one, held.label) for one in rounds]
                rates[size, kind] = over_rounds(points, TARGET)
                seconds[size, kind] = json.loads((held.folder / "built.json").read_text())["wall_s"]
    finally:
        for fleet in fleets:
            fleet.close()
    rows = []
    for kind, (floor, aim) in LIMITS.items():
        what = f"{plan.million:,} against {plan.million // SHARE:,}, {kind} @{TARGET:g}"
        near, far = rates.get(("small", kind)), rates.get(("large", kind))
        if near and far:
            note = f"{near.median:,.0f}/s and {far.median:,.0f}/s"
            slower, spread = near.median / far.median, near.spread + far.spread
            rows.append(Row(what, slower, "x slower", floor, aim, True, spread, note))
        else:
            rows.append(Row(what, None, "x slower", floor, aim, True, note="recall not reached"))
        took = [seconds.get((size, kind)) for size in ("small", "large")]
        if all(took):
            ratio = took[1] / took[0] / SHARE
            note = f"{number(took[0])} s and {number(took[1])} s"
            rows.append(
                Row(f"build {kind}, of linear time", ratio, "x", LINEAR, None, True, note=note)
            )
    return rows, details
