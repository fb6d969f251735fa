"""Everything at once on one file, for a while: `SYNADB_SOAK_SECONDS` (10; `make soak` says 600)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from rounds import run_program

SECONDS = float(os.environ.get("SYNADB_SOAK_SECONDS", "10"))
REST_S = 240
"""Seconds that starting, the last comparison and a busy machine may take."""


@pytest.mark.timeout(60 + REST_S + SECONDS)
def test_a_soak_ends_with_what_the_model_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = run_program("soak.py", [tmp_path, 1, SECONDS], SECONDS + REST_S)
    with capfd.disabled():
        print(f"\n{SECONDS:g} s: {output.strip().splitlines()[-1]}")
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", output)}
    assert min(counts[what] for what in ("commits", "looks", "compactions", "kills")) > 0
