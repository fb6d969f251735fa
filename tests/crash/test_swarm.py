"""Many processes that write to one file are killed and stopped; a reader checks every commit.

`SYNADB_CRASH_ROUNDS` says how many rounds of 8 processes with 10,000 commits each (`make crash`
says 200); without it there are a few short ones.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from rounds import run_program

WRITERS = 8
ASKED = os.environ.get("SYNADB_CRASH_ROUNDS")
ROUNDS, COMMITS = (int(ASKED), 10_000) if ASKED else (3, 500)
ROUND_S = 300
"""Seconds after which a round counts as hung, on a busy machine too."""


@pytest.mark.timeout(60 + ROUND_S * ROUNDS)
def test_nothing_acknowledged_by_a_killed_swarm_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    counts = Counter[str]()
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        output = run_program("swarm.py", [folder / "a.db", seed, WRITERS, COMMITS], ROUND_S)
        for count, what in re.findall(r"(\d+) (commits|kills|stops|looks)", output):
            counts[what] += int(count)
        for left in folder.iterdir():
            left.unlink()
    with capfd.disabled():
        numbers = ", ".join(f"{count} {what}" for what, count in counts.items())
        print(f"\n{ROUNDS} rounds of {WRITERS} processes: {numbers}")
    assert counts["commits"] == ROUNDS * WRITERS * COMMITS
    assert counts["kills"] >= ROUNDS
