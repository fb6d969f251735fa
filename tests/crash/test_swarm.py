"""Many processes that write to one file are killed and stopped; a reader checks every commit.

`SYNADB_CRASH_ROUNDS` says how many rounds of 8 processes with 10,000 commits each (`make crash`
says 200); without it there are a few short ones.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

SWARM = Path(__file__).with_name("swarm.py")
WRITERS = 8
ASKED = os.environ.get("SYNADB_CRASH_ROUNDS")
ROUNDS, COMMITS = (int(ASKED), 10_000) if ASKED else (3, 500)
ROUND_S = 300
"""Seconds after which a round counts as hung, on a busy machine too."""


def run_swarm(folder: Path, seed: int) -> str:
    """What a round prints; it and all its processes end here, however it went."""
    arguments = [folder / "a.db", seed, WRITERS, COMMITS]
    process = subprocess.Popen(
        [sys.executable, SWARM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
    )
    try:
        output, _ = process.communicate(timeout=ROUND_S)
    except subprocess.TimeoutExpired:
        output = "the swarm hangs"
    finally:
        if process.poll() != 0:
            os.killpg(process.pid, signal.SIGKILL)
            output += process.communicate()[0] or ""
    assert process.returncode == 0, f"seed {seed}: {output}"
    return output


@pytest.mark.timeout(60 + ROUND_S * ROUNDS)
def test_nothing_acknowledged_by_a_killed_swarm_is_lost(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    counts = Counter[str]()
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for count, what in re.findall(
            r"(\d+) (commits|kills|stops|looks)", run_swarm(folder, seed)
        ):
            counts[what] += int(count)
        for left in folder.iterdir():
            left.unlink()
    with capfd.disabled():
        numbers = ", ".join(f"{count} {what}" for what, count in counts.items())
        print(f"\n{ROUNDS} rounds of {WRITERS} processes: {numbers}")
    assert counts["commits"] == ROUNDS * WRITERS * COMMITS
    assert counts["kills"] >= ROUNDS
