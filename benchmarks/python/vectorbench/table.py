"""Rows of the table of speeds: what was measured beside a floor and an aim."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frame import machine, now


@dataclass(frozen=True)
class Row:
    """One row; without a floor the measured number is only stated."""

    what: str
    measured: float | None
    unit: str
    floor: float | None = None
    aim: float | None = None
    at_most: bool = False
    spread: float = 0.0
    """Half the distance between best and worst round, a share of the measured number."""
    note: str = ""
    absent: str = ""
    """Why there is nothing to compare with; the row is then no verdict."""

    def meets(self, limit: float | None) -> bool:
        """Whether the measured number is on the right side of a limit."""
        if limit is None or self.measured is None:
            return limit is None
        return self.measured <= limit if self.at_most else self.measured >= limit

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, `stated`, or why there is no verdict."""
        if self.absent:
            return "not compared"
        if self.floor is None:
            return "stated"
        return "ok" if self.meets(self.floor) else "MISSED"

    @property
    def is_missed(self) -> bool:
        """Whether a floor is missed."""
        return self.verdict == "MISSED"


def above(*spreads: float) -> float:
    """The ratio from which on one rate is above another: 1 and the spread of both."""
    return 1.0 + sum(spreads)


def number(value: float | None) -> str:
    """A number in a few characters."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.1f}"


def print_rows(rows: Iterable[Row]) -> None:
    """The table, a line for each row."""
    head = f"{'what':<46}{'measured':>10}{'+-':>6}{'floor':>9}{'aim':>9}  {'unit':<16}verdict"
    print("\n" + head)
    for row in rows:
        spread = f"{row.spread:.0%}" if row.spread else ""
        aimed = ", aim met" if row.aim is not None and row.meets(row.aim) else ""
        verdict = row.verdict + (aimed if row.verdict == "ok" else "")
        notes = "; ".join(text for text in (row.absent, row.note) if text)
        print(
            f"{row.what:<46}{number(row.measured):>10}{spread:>6}{number(row.floor):>9}"
            f"{number(row.aim):>9}  {row.unit:<16}{verdict}" + (f"  ({notes})" if notes else "")
        )


def print_absent(absent: dict[str, str]) -> None:
    """Name each peer that was not measured, with the reason."""
    for name, why in sorted(absent.items()):
        print(f"not measured: {name}: {why}")


def save(folder: Path, part: str, rows: list[Row], details: dict[str, Any]) -> Path:
    """Write one part of the run as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": f"vectors, {part}",
        "date": now(),
        "machine": machine(),
        **details,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
    }
    path = folder / f"vectors-{part}.json"
    path.write_text(json.dumps(rounded(record), indent=1) + "\n", encoding="ascii")
    return path


def rounded(value: Any) -> Any:
    """The same with floats of five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value


def kept(folder: Path) -> list[tuple[dict[str, Any], list[Row]]]:
    """The parts that earlier runs wrote, with their rows."""
    found = []
    for path in sorted(folder.glob("vectors-*.json")):
        record = json.loads(path.read_text(encoding="ascii"))
        fields = Row.__dataclass_fields__
        rows = [Row(**{n: v for n, v in row.items() if n in fields}) for row in record["rows"]]
        found.append((record, rows))
    return found
