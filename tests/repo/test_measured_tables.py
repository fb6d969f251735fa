"""The rates in `docs/which-index.md` are those of the results that the benchmark has written."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "which-index.md"
RECALLS = ("0.9", "0.95", "0.99", "0.999")
SETS = {"minilm": "**minilm: ", "fashion": "**fashion: ", "wide": "**1,536 dimensions: "}
"""Sets of vectors, and what stands above the table of each."""

CONTESTANTS = {
    "graph, `hnsw`": "synadb hnsw",
    "`cascade`": "synadb cascade",
    "inverted file, `gravity_well`": "synadb gravity_well",
    "codes, `flat`": "synadb flat",
    "rabitqlib: SymphonyQG, inverted files": "rabitqlib",
    "svs: float32, LVQ, LeanVec": "svs",
    "FAISS: HNSW, inverted files, codes": "faiss",
    "vsag": "vsag",
    "glass, portable build": "glass portable",
    "hnswlib": "hnswlib",
    "usearch": "usearch",
}

PARTS_AND_WHOLES = {"synadb", "rabitqlib symqg"}
"""The best of all of one's own, and one method that is in the row of its project."""


def table_of(name: str) -> dict[str, list[str]]:
    """The cells of each row, by what the row is named."""
    behind = PAGE.read_text().split(SETS[name])[1]
    lines = behind.split("![")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {row[0]: row[1:] for row in rows if row[0] in CONTESTANTS}


def rates_of(name: str) -> dict[str, Any]:
    path = ROOT / "benchmarks" / "results" / f"vectors-curves-{name}.json"
    rates: dict[str, Any] = json.loads(path.read_text())["batch"]["rates"]
    return rates


@pytest.mark.parametrize("name", SETS)
def test_table_has_the_rates_that_were_measured(name: str) -> None:
    table, rates = table_of(name), rates_of(name)
    assert set(table) == set(CONTESTANTS)
    for row, cells in table.items():
        measured = [rates[CONTESTANTS[row]].get(recall) for recall in RECALLS]
        expected = [f"{statistics.median(each):,.0f}" if each else "-" for each in measured]
        assert cells == expected, row


@pytest.mark.parametrize("name", SETS)
def test_table_has_everybody_who_was_measured(name: str) -> None:
    assert set(rates_of(name)) == {*CONTESTANTS.values(), *PARTS_AND_WHOLES}
