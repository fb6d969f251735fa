"""Rows of filtered searches: a field that knows nothing of the vectors lets some rows pass."""

from __future__ import annotations

from typing import Any

from .curves import Rate, over_rounds
from .fleet import Fleet
from .passing import SEED, Case, among
from .peers import FILTERED
from .plan import Part, Plan, settings_of
from .rows_curves import Rounds, kept_curves, measured, points_of, ratio_row
from .table import Row

OURS, ZVEC, FAISS = FILTERED
LIMITS = {10: (8_000.0, 18_000.0), 1: (15_000.0, 40_000.0)}
"""Queries/s of a reused filter at recall .95, by the share that passes in percent."""

TARGETS = (0.95, 0.997)
FRESH = ("prefix", "keys")
FRESH_AIM = 0.5


def rates_of(rounds: Rounds, names: list[str]) -> dict[str, dict[float, Rate | None]]:
    """Of each contestant the rate at each target."""
    return {
        name: {t: over_rounds([points_of(one, name) for one in rounds], t) for t in TARGETS}
        for name in names
    }


def reused_rows(share: int, rates: Any, absent: dict[str, str]) -> list[Row]:
    """One filter for all queries: by the floor in batches, beside zvec one query a call."""
    floor, aim = LIMITS[share]
    many, single = rates[share, "reused", "batch"], rates[share, "reused", "single"]
    what = f"filtered, {share} % pass, reused"
    ours = many[OURS][0.95]
    rows = [
        Row(f"{what}, @0.95", ours.median if ours else None, "queries/s", floor, aim,
            spread=ours.spread if ours else 0.0)
    ]  # fmt: skip
    for name, at, source in ((FAISS, 0.95, many), (ZVEC, 0.95, single), (ZVEC, 0.997, single)):
        rate = source.get(name, {}).get(at)
        limits = (1.5, 2.0) if at == 0.997 else (None, None)
        pair = (name.split()[0], rate) if rate else None
        manner = ", single calls" if source is single else ""
        why = absent.get(name, "")
        rows.append(ratio_row(f"{what}, @{at:g}{manner}", source[OURS][at], pair, *limits, why))
    return rows


def fresh_rows(share: int, rates: Any, absent: dict[str, str]) -> list[Row]:
    """A filter for each query, beside the reused one and beside zvec's."""
    rows = []
    reused = rates[share, "reused", "single"][OURS][0.95]
    for way in FRESH:
        found = rates[share, way, "single"]
        ours = found[OURS][0.95]
        words = "a prefix" if way == "prefix" else "a list of keys"
        what = f"filtered, {share} % pass, fresh from {words}"
        note = f"{ours.median:,.0f}/s a query a call" if ours else "recall not reached"
        share_of = ours.median / reused.median if ours and reused else None
        spread = ours.spread + reused.spread if ours and reused else 0.0
        rows.append(Row(what, share_of, "of the reused", None, FRESH_AIM, spread=spread, note=note))
        them = rates[share, "prefix", "single"].get(ZVEC, {}).get(0.95)
        rows.append(
            ratio_row(what, ours, ("zvec", them) if them else None, None, why=absent.get(ZVEC, ""))
        )
    return rows


def modes_of(case: Case) -> tuple[str, ...]:
    """A batch takes one filter alone."""
    return ("single",) if case.is_fresh else ("batch", "single")


def taking_part(fleet: Fleet, case: Case, mode: str) -> list[str]:
    """Who has such a search: zvec takes single queries, FAISS no filter that is made in passing."""
    names = {held.peer.name for held in fleet.held}
    left_out = {FAISS} if case.is_fresh else set()
    if mode == "batch" or case.way == "keys":
        left_out.add(ZVEC)
    return sorted(names - left_out)


def filters(plan: Plan) -> Part:
    """All cases, each by turns among the contestants."""
    data = plan.load(plan.base)
    names, absent = plan.names(FILTERED)
    cases = [Case(share, way) for share in LIMITS for way in ("reused", *FRESH)]
    for case in cases:
        among(data, case)
    fleet = plan.fleet(data, names)
    details: dict[str, Any] = settings_of(plan, names, absent) | {"seed": SEED}
    fleet.targets = lambda: TARGETS
    rates, kept, best_of = {}, {}, {}
    try:
        if plan.prepare:
            return [], details | {"failed": fleet.failed}
        for case in cases:
            for mode in modes_of(case):
                part = taking_part(fleet, case, mode)
                # A fresh filter costs the same whatever the setting: what was best is enough.
                fleet.allow(case, part, best_of[case.share] if case.is_fresh else None)
                rounds = measured(plan, fleet, mode == "single")
                if not case.is_fresh:
                    best_of[case.share] = fleet.names_chosen()
                found = rates[case.share, case.way, mode] = rates_of(rounds, part)
                kept[f"{case.share} %, {case.way}, {mode}"] = kept_curves(fleet, found, rounds)
    finally:
        fleet.close()
    rows = [row for share in LIMITS for row in reused_rows(share, rates, absent)]
    rows += [row for share in LIMITS for row in fresh_rows(share, rates, absent)]
    return rows, details | {"failed": fleet.failed, "searches": kept}
