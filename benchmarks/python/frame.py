"""The frame of the benchmarks: interleaved rounds in fresh processes, medians, ratios, JSON.

A benchmark is a list of contestants and a script that, called with `--child NAME`, runs every
workload once and prints `{workload: rate}` as the last line. Each round runs each contestant once,
in an order that turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".bench"
RESULTS = ROOT / "benchmarks" / "results"

OURS = "synadb"


@dataclass(frozen=True)
class Contestant:
    """A store in a benchmark, and where a child process finds its package."""

    name: str
    packages: str = ""
    """Folder below .bench that is put on the child's path; empty for what the environment has."""
    distribution: str = ""
    """Distribution whose version is reported; empty for the standard library."""
    is_limit: bool = False
    """Whether it stands for a limit of the machine and not for a peer."""


@dataclass(frozen=True)
class Figure:
    """Rates of one contestant in one workload over all rounds."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst round, as a share of the median."""
        return (max(self.rates) - min(self.rates)) / 2 / self.median


Figures = dict[str, dict[str, Figure]]
"""By workload, then by contestant."""


def run_rounds(
    script: Path, contestants: Sequence[Contestant], rounds: int, extra: Sequence[str] = ()
) -> Figures:
    """Run each contestant once a round, each time in a fresh process."""
    rates: dict[str, dict[str, list[float]]] = {}
    shuffle = random.Random(7)
    for number in range(1, rounds + 1):
        order = shuffle.sample(list(contestants), len(contestants))
        for contestant in order:
            print(f"round {number}/{rounds}: {contestant.name}", file=sys.stderr, flush=True)
            for workload, rate in run_child(script, contestant, extra).items():
                rates.setdefault(workload, {}).setdefault(contestant.name, []).append(rate)
    return {
        workload: {name: Figure(tuple(found)) for name, found in by_name.items()}
        for workload, by_name in rates.items()
    }


def run_child(script: Path, contestant: Contestant, extra: Sequence[str]) -> dict[str, float]:
    """Run one contestant in a process of its own and read its rates."""
    environment = dict(os.environ)
    if contestant.packages:
        environment["PYTHONPATH"] = str(PEERS / contestant.packages)
    command = [sys.executable, str(script), "--child", contestant.name, *extra]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contestant.name} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def print_table(figures: Figures, contestants: Sequence[Contestant]) -> None:
    """Print medians with their spread, our ratio to the best peer, and to the limit."""
    limits = {c.name for c in contestants if c.is_limit}
    for workload, by_name in figures.items():
        print(f"\n{workload}")
        for name, figure in sorted(by_name.items(), key=lambda item: -item[1].median):
            tag = "limit" if name in limits else ""
            print(f"  {name:<16}{figure.median:>14,.0f}/s  +-{figure.spread:>4.0%}  {tag}")
        for kind, ratio, name in ratios(by_name, limits):
            print(f"  {OURS} / {kind} ({name}): {ratio:.2f}")


def ratios(by_name: dict[str, Figure], limits: set[str]) -> list[tuple[str, float, str]]:
    """Our median over the best peer's and over the limit's."""
    found = []
    for kind, is_of_kind in (("best peer", False), ("limit", True)):
        others = {n: f for n, f in by_name.items() if n != OURS and (n in limits) == is_of_kind}
        if others and OURS in by_name:
            best = max(others, key=lambda n: others[n].median)
            found.append((kind, by_name[OURS].median / others[best].median, best))
    return found


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "simd": next((f for f in ("avx512f", "avx2", "sse4_2") if f in flags), ""),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def now() -> str:
    """The time of day, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def version_of(contestant: Contestant) -> str:
    """The installed version of a contestant's distribution."""
    if contestant.name == "sqlite":
        return sqlite3.sqlite_version
    if not contestant.distribution:
        return platform.python_version()
    folders = [str(PEERS / contestant.packages)] if contestant.packages else sys.path
    for found in metadata.distributions(name=contestant.distribution, path=folders):
        return found.version
    return "unknown"


def save(
    name: str, figures: Figures, contestants: Sequence[Contestant], settings: dict[str, Any]
) -> Path:
    """Write the run as JSON into benchmarks/results."""
    limits = {c.name for c in contestants if c.is_limit}
    record = {
        "benchmark": name,
        "date": now(),
        "machine": machine(),
        "versions": {c.name: version_of(c) for c in contestants},
        "settings": settings,
        "workloads": {
            workload: {
                "rates_per_s": {n: [round(rate, 1) for rate in f.rates] for n, f in found.items()},
                "ratios": {kind: round(ratio, 3) for kind, ratio, _ in ratios(found, limits)},
            }
            for workload, found in figures.items()
        },
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="ascii")
    return path
