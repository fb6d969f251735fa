"""The vector side beside its peers: recall and rate, builds, stores, on real data.

    make bench-vectors                                            everything, a long while
    python benchmarks/python/vectors.py --only minilm --rows curves,builds
    python benchmarks/python/vectors.py --quick --only demo        whether it works
    python benchmarks/python/vectors.py --report                  the table of what was measured

Each part prints its rows and writes benchmarks/results/vectors-PART.json; curves are drawn as SVG
into docs/pictures.
Indexes are built once and kept in .bench/vectors-cache, so that a part can be prepared on its own
(--prepare). Exits with 1 when a floor is missed, with 2 when nothing was measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from frame import RESULTS, ROOT
from vectorbench import rows_curves, rows_stores
from vectorbench.fleet import ChildError
from vectorbench.peers import LIBRARIES, OPTIONS, OURS
from vectorbench.pictures import groups, picture
from vectorbench.plan import Measure, Plan
from vectorbench.rows_builds import builds
from vectorbench.rows_choice import choice
from vectorbench.rows_filters import filters
from vectorbench.rows_million import million
from vectorbench.rows_original import original
from vectorbench.rows_presets import presets
from vectorbench.sets import SHAPES, NoDataError
from vectorbench.table import Row, kept, print_absent, print_rows, save

PARTS: dict[str, Measure] = {
    "builds": builds,
    "exact": rows_curves.exact,
    "stores": rows_curves.stores,
    "inserts": rows_stores.inserts,
    "stream": rows_stores.stream,
    "memory": rows_stores.memory,
    "reopen": rows_stores.reopen,
    "overhead": rows_stores.overhead,
    "filters": filters,
    "presets": presets,
    "choice": choice,
    "original": original,
    "million": million,
}
"""Parts beside `curves`, which is one for each set."""

PICTURES = ROOT / "docs" / "pictures"


def chosen(plan: Plan) -> list[tuple[str, Measure]]:
    """The parts of a run by the name of their result."""
    named = plan.rows or ("curves", *PARTS)
    found: list[tuple[str, Measure]] = []
    if "curves" in named:
        found += [
            (f"curves-{data}", lambda p, d=data: rows_curves.curves(p, d)) for data in plan.sets
        ]
    return found + [(name, PARTS[name]) for name in PARTS if name in named]


def stamp(record: dict[str, Any]) -> str:
    """On what and when a part was measured."""
    machine = record["machine"]
    words = {"avx512f": "AVX-512", "avx2": "AVX2"}.get(machine.get("simd", ""), "no AVX2")
    cores = f"one of {machine['cores']} cores of an"
    return f"{cores} {machine['cpu']}, {words}, {record['date'][:10]}"


def pictures_of(plan: Plan) -> Path:
    """Where curves are drawn: into the documents, of what is no measurement beside the results."""
    folder = PICTURES if plan.out == RESULTS else plan.out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def draw(folder: Path, details: dict[str, Any]) -> None:
    """The curves of one set, of batches and of single calls."""
    names = sorted([OURS + " " + kind for kind in ("hnsw", "gravity_well", "cascade", "flat")])
    names += [name for name in LIBRARIES if name != OURS]
    for mode, unit in (("batch", "queries/s, one thread"), ("single", "queries/s, single calls")):
        if mode not in details:
            continue
        curves = groups(details[mode]["points"], names)
        title = SHAPES[details["set"]].title
        path = folder / f"vectors-curves-{details['set']}-{mode}.svg"
        path.write_text(picture(title, curves, unit, details["stamp"]), encoding="ascii")
        print(f"drawn in {path.name}")


def run(plan: Plan) -> tuple[list[Row], int]:
    """All rows of a run, and how many parts were measured."""
    rows, count = [], 0
    for name, measure in chosen(plan):
        print(f"\n== {name}", flush=True)
        try:
            found, details = measure(plan)
        except (NoDataError, ChildError) as error:
            print(f"not run: {name}: {error}")
            rows += (
                [Row(name, None, "", absent=str(error))] if isinstance(error, ChildError) else []
            )
            continue
        print_absent(details.get("not measured", {}) | details.get("failed", {}))
        if plan.prepare:
            continue
        print_rows(found)
        count += 1
        path = save(plan.out, name, found, details)
        print(f"kept in {path.name}", flush=True)
        if name.startswith("curves-"):
            record = next(r for r, _ in kept(plan.out) if r["benchmark"] == f"vectors, {name}")
            draw(pictures_of(plan), details | {"stamp": stamp(record)})
        rows += found
    return rows, count


def report(folder: Path) -> list[Row]:
    """Print the table of the parts that were measured, each with its date."""
    rows = []
    for record, found in kept(folder):
        cpu = record["machine"]["cpu"]
        print(f"\n== {record['benchmark']}, {record['date']}, {cpu}", end="")
        print(", QUICK: no measurement" if record["settings"]["quick"] else "")
        print_absent(record.get("not measured", {}) | record.get("failed", {}))
        print_rows(found)
        rows += found
    return rows


def parsed() -> tuple[Plan, bool]:
    """The command line, and whether the table alone is wanted."""
    known = Plan()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"sets, of {', '.join(SHAPES)} (default all but demo)")
    parser.add_argument("--rows", help=f"parts, of curves, {', '.join(PARTS)}")
    parser.add_argument("--peers", help=f"contestants, of {', '.join(OPTIONS)}")
    parser.add_argument("--rounds", type=int, default=known.rounds)
    parser.add_argument("--build-rounds", type=int, default=known.build_rounds)
    parser.add_argument("--seconds", type=float, default=known.seconds, help="a setting a round")
    parser.add_argument("--stream-seconds", type=float, default=known.stream_s)
    parser.add_argument("--searcher", choices=("process", "thread"), default=known.searcher)
    parser.add_argument("--million", type=int, default=known.million, help="rows of that part")
    parser.add_argument("--clock", choices=("cpu", "wall"), default=known.clock)
    parser.add_argument("--prepare", action="store_true", help="build the indexes alone")
    parser.add_argument("--quick", action="store_true", help="5,000 rows, no measurement")
    parser.add_argument("--report", action="store_true", help="print what was measured before")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args()
    lists = {}
    for name, field, allowed in (
        ("only", "sets", SHAPES), ("rows", "rows", ("curves", *PARTS)),
        ("peers", "peers", OPTIONS),
    ):  # fmt: skip
        words = tuple(filter(None, (getattr(options, name) or "").split(",")))
        unknown = sorted(set(words) - set(allowed))
        if unknown:
            parser.error(f"--{name}: {', '.join(unknown)} is none of {', '.join(allowed)}")
        if words:
            lists[field] = words
    plan = Plan(
        **lists, rounds=options.rounds, build_rounds=options.build_rounds, seconds=options.seconds,
        stream_s=options.stream_seconds, searcher=options.searcher, million=options.million,
        clock=options.clock, prepare=options.prepare, out=options.out or RESULTS,
    )  # fmt: skip
    if options.quick:
        plan = plan.quickly()
    if options.out and options.quick:
        plan = plan.to(options.out)
    return plan, options.report


def main() -> None:
    """Measure, print, keep."""
    plan, is_report = parsed()
    if is_report:
        rows, count = report(plan.out), 1
    else:
        rows, count = run(plan)
    missed = [row.what for row in rows if row.is_missed]
    if missed:
        print(f"\nfloors missed: {len(missed)}: {'; '.join(missed)}")
    if not count and not plan.prepare:
        print("nothing was measured", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
