"""Rows of recall and rate: our best index and our graph beside the peers at equal recall."""

from __future__ import annotations

from typing import Any

from .curves import TARGETS, Point, Rate, over_rounds
from .fleet import Fleet, group_of
from .measure import Others
from .peers import LIBRARIES, OURS, STORES
from .plan import Part, Plan, settings_of
from .table import Row, above

FLOORS = {"minilm": 0.8, "fashion": 0.7}
"""Shares of the best peer's rate; at .999 of minilm ours is to be above it."""

GRAPH = f"{OURS} hnsw"
EXACT_RECALL = 0.999

Rounds = list[dict[str, list[dict[str, Any]]]]
Rates = dict[str, dict[float, Rate | None]]


def points_of(one_round: dict[str, list[dict[str, Any]]], start: str) -> list[Point]:
    """Points of all configurations whose label begins so."""
    return [
        Point(point["recall"], point["rate"], point["label"], label)
        for label, points in one_round.items()
        if label == start or label.startswith(start + " ")
        for point in points
    ]


def rates_of(rounds: Rounds, names: list[str]) -> Rates:
    """Of each name the rate at each target."""
    found = {}
    for name in names:
        points = [points_of(one, name) for one in rounds]
        found[name] = {target: over_rounds(points, target) for target in TARGETS}
    return found


def best(rates: Rates, names: list[str], target: float) -> tuple[str, Rate] | None:
    """The fastest of the names at a recall."""
    reached = [(name, rate) for name in names if (rate := rates[name][target]) is not None]
    return max(reached, key=lambda pair: pair[1].median) if reached else None


def ratio_row(
    what: str, ours: Rate | None, peer: tuple[str, Rate] | None, floor: float | None,
    aim: float | None = None, why: str = "",
) -> Row:  # fmt: skip
    """Our rate over a peer's; floor or aim 1 means above, by more than the spread of both."""
    name, rate = peer or ("", None)
    said = f"{ours.median:,.0f}/s" if ours else "recall not reached"
    if rate is None:
        absent = why or "no peer reached this recall"
        return Row(what, None, "x the best peer", floor, aim, note=f"ours {said}", absent=absent)
    note = f"ours {said}; {name} {rate.median:,.0f}/s"
    if ours is None:
        return Row(what, None, f"x {name}", floor, aim, note=note)
    edge = above(ours.spread, rate.spread)
    limits = [edge if limit == 1 else limit for limit in (floor, aim)]
    spread = ours.spread + rate.spread
    unit = f"x {name}"
    return Row(what, ours.median / rate.median, unit, *limits, spread=spread, note=note)


def best_rows(data: str, rates: Rates, peers: list[str], mode: str) -> list[Row]:
    """The best of our indexes beside the best peer at each recall."""
    rows = []
    for target in TARGETS:
        mine = best(rates, [OURS], target)
        floor = FLOORS.get(data)
        if data == "minilm" and target == 0.999:
            floor = 1.0
        stated = mode != "batch" or floor is None
        rows.append(
            ratio_row(
                f"best index, {data} @{target:g}" + ("" if mode == "batch" else ", single calls"),
                mine[1] if mine else None,
                best(rates, peers, target),
                None if stated else floor,
                None if stated else 1.0,
                "" if peers else "no peer is there",
            )
        )
    return rows


def graph_rows(data: str, rates: Rates) -> list[Row]:
    """Our graph alone: twice hnswlib, and above SymphonyQG where that takes part."""
    rows = []
    for target in TARGETS[:3]:
        ours = rates.get(GRAPH, {}).get(target)
        them = rates.get("hnswlib", {}).get(target)
        why = "" if "hnswlib" in rates else "hnswlib is not there"
        row = ratio_row(
            f"HNSW alone, {data} @{target:g}",
            ours,
            ("hnswlib", them) if them else None,
            2.0,
            why=why,
        )
        rows.append(row)
        symphony = rates.get("rabitqlib symqg", {}).get(target)
        if ours and symphony:
            pair = ("SymphonyQG", symphony)
            rows.append(ratio_row(f"HNSW alone, {data} @{target:g}", ours, pair, None, 1.0))
    return rows


def measured(plan: Plan, fleet: Fleet, one_by_one: bool) -> Rounds:
    """All rounds of a fleet."""
    return fleet.rounds(plan.rounds, plan.seconds, one_by_one, plan.clock)


def groups_of(fleet: Fleet) -> list[str]:
    """Names whose rates are read: libraries, our kinds, and SymphonyQG within its library."""
    names = list(dict.fromkeys(held.peer.name for held in fleet.held))
    return list(dict.fromkeys(names + [group_of(held) for held in fleet.held]))


def curves(plan: Plan, data_name: str) -> Part:
    """Rows and curves of one set."""
    data = plan.load(data_name)
    names, absent = plan.names(LIBRARIES)
    fleet = plan.fleet(data, names)
    details: dict[str, Any] = {"set": data_name, **settings_of(plan, names, absent)}
    try:
        if plan.prepare:
            return [], details | {"failed": fleet.failed}
        groups = groups_of(fleet)
        peers = [name for name in groups if name in LIBRARIES and name != OURS]
        rows, others, before = [], Others(), fleet.cpu_s()
        for mode in ("batch", "single"):
            rounds = measured(plan, fleet, mode == "single")
            rates = rates_of(rounds, groups)
            rows += best_rows(data_name, rates, peers, mode)
            if mode == "batch" and data_name in FLOORS:
                rows += graph_rows(data_name, rates)
            details[mode] = kept_curves(fleet, rates, rounds)
        details |= {
            "failed": fleet.failed,
            "cpus used by others": others.cpus(fleet.cpu_s() - before),
        }
    finally:
        fleet.close()
    return rows, details


def kept_curves(fleet: Fleet, rates: Rates, rounds: Rounds) -> dict[str, Any]:
    """What is kept of a mode: all settings that were tried, rates at the targets in all rounds."""
    fields = ("settings", "recall", "rate", "p50_us", "p99_us")
    return {
        "points": {
            label: [{name: point[name] for name in fields if name in point} for point in points]
            for label, points in fleet.tried.items()
        },
        "rates": {
            name: {f"{target:g}": list(rate.rounds) for target, rate in by.items() if rate}
            for name, by in rates.items()
        },
        "rounds": [
            {p["label"]: p["rate"] for points in one.values() for p in points} for one in rounds
        ],
    }


def exact(plan: Plan) -> Part:
    """Our scan of codes, and every vector compared, beside the exact scan of FAISS."""
    data = plan.load(plan.base)
    names, absent = plan.names((OURS, "faiss flat"))
    scans = (f"{OURS} flat", f"{OURS} exact")
    fleet = plan.fleet(data, names, lambda label: label in scans or not label.startswith(OURS))
    details = settings_of(plan, names, absent)
    try:
        if plan.prepare:
            return [], details
        rounds = measured(plan, fleet, one_by_one=True)
        labels = [held.label for held in fleet.held]
        recalls = {label: max(point.recall for point in points_of(fleet.tried, label))
                   for label in labels}  # fmt: skip
        rates = {label: over_rounds([points_of(one, label) for one in rounds], EXACT_RECALL)
                 for label in labels}  # fmt: skip
    finally:
        fleet.close()
    rows = []
    for label in labels:
        rate, is_ours = rates[label], label == f"{OURS} flat"
        if rate is None and not is_ours:
            continue
        rows.append(
            Row(
                f"exact search, {label}", rate.median if rate else None,
                "queries/s", 2000 if is_ours else None, 3200 if is_ours else None,
                spread=rate.spread if rate else 0.0, note=f"recall {recalls[label]:.4f} at most",
            )
        )  # fmt: skip
    return rows, details | {"failed": fleet.failed}


def stores(plan: Plan) -> Part:
    """Whole stores from Python, one search a call, at .99 of minilm."""
    data = plan.load(plan.base)
    names, absent = plan.names(STORES)
    fleet = plan.fleet(data, names)
    details = settings_of(plan, names, absent)
    try:
        if plan.prepare:
            return [], details | {"failed": fleet.failed}
        rounds = measured(plan, fleet, one_by_one=True)
        rates = rates_of(rounds, groups_of(fleet))
    finally:
        fleet.close()
    rows = []
    for name in STORES[1:]:
        rate = rates.get(name, {}).get(0.99)
        is_floor = name == "zvec"
        row = ratio_row(
            f"whole store, one search a call @.99, {name}", rates[OURS][0.99],
            (name, rate) if rate else None, 1.0 if is_floor else None, 2.0 if is_floor else None,
            absent.get(name, ""),
        )  # fmt: skip
        rows.append(row)
    return rows, details | {"failed": fleet.failed, "single": kept_curves(fleet, rates, rounds)}
