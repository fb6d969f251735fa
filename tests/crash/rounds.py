"""Runs a program of many processes, and ends all of them however it goes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path


def run_program(name: str, arguments: list[object], timeout_s: float) -> str:
    """What the program of that name beside this file prints; fails where it fails or hangs."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name(name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
    )
    output = ""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        output = f"{name} hangs"
    finally:
        if process.poll() != 0:
            with contextlib.suppress(ProcessLookupError):  # All of them may be gone.
                os.killpg(process.pid, signal.SIGKILL)
            output += process.communicate()[0] or ""
    assert process.returncode == 0, f"{name} {arguments}: {output}"
    return output
