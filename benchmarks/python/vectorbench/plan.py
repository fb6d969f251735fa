"""What a run is to do: options of the command line in one place."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from frame import PEERS, RESULTS

from .fleet import Fleet
from .peers import CONTESTANTS, OURS, present
from .sets import CACHE, VectorSet, load
from .table import Row

QUICK_ROWS = 5000
QUICK_QUERIES = 200


def is_no_scan(label: str) -> bool:
    """Whether a configuration is more than a comparison with every vector."""
    return label != f"{OURS} exact"


@dataclass(frozen=True)
class Plan:
    """Options of one run."""

    sets: tuple[str, ...] = ("minilm", "fashion", "wide")
    rows: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    """Names of contestants; empty for all."""
    rounds: int = 5
    seconds: float = 0.25
    """How long a setting is searched with in each round."""
    build_rounds: int = 3
    stream_s: float = 60.0
    million: int = 1_000_000
    clock: str = "cpu"
    quick: bool = False
    prepare: bool = False
    searcher: str = "process"
    out: Path = RESULTS
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def quickly(self) -> Plan:
        """The same with little data and few rounds: whether it works, not how fast."""
        return replace(
            self, quick=True, rounds=2, seconds=0.02, build_rounds=1, stream_s=1.5,
            million=10_000, out=PEERS / "quick",
        )  # fmt: skip

    def to(self, folder: Path) -> Plan:
        """The same with results in another folder."""
        return replace(self, out=folder)

    @property
    def base(self) -> str:
        """The set of the rows that name none."""
        return "minilm" if "minilm" in self.sets else self.sets[0]

    @property
    def made(self) -> str:
        """How names of sets that are made of that begin."""
        return "demo-" if self.base == "demo" else ""

    def load(self, name: str, limit: int | None = None) -> VectorSet:
        """A set, cut down in a quick run."""
        if self.quick:
            return load(name, min(limit or QUICK_ROWS, QUICK_ROWS), QUICK_QUERIES)
        return load(name, limit)

    def names(self, wanted: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
        """Of the wanted contestants those that take part, and why others do not."""
        chosen = [
            name for name in wanted if not self.peers or CONTESTANTS[name].option in self.peers
        ]
        found, absent = present(chosen)
        left_out = {name: "left out by --peers" for name in wanted if name not in chosen}
        return found, absent | left_out

    def fleet(
        self, data: VectorSet, names: list[str], wanted: Callable[[str], bool] = is_no_scan
    ) -> Fleet:
        """The contestants on a set, their indexes built where the cache has none."""
        return Fleet(data, names, self.threads, wanted)

    def scratch(self) -> Path:
        """A folder for files of one run, on the disk of the repository."""
        folder = CACHE / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


Part = tuple[list[Row], dict[str, Any]]
"""Rows of the table, and what is kept beside them as JSON."""

Measure = Callable[[Plan], Part]


def settings_of(plan: Plan, names: list[str], absent: dict[str, str]) -> dict[str, Any]:
    """What every part keeps about itself."""
    return {
        "settings": {
            "rounds": plan.rounds,
            "seconds a setting": plan.seconds,
            "clock": plan.clock,
            "searching threads": 1,
            "building threads": plan.threads,
            "quick": plan.quick,
        },
        "versions": {name: CONTESTANTS[name].version() for name in names},
        "not measured": absent,
    }
