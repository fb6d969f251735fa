"""Processes that end with the program that made them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable


def fork(act: Callable[[], object]) -> int:
    """A child that does that and ends."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        end_with_parent()
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def end_with_parent() -> None:
    """Sees to it that no process of a swarm outlives who started it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
