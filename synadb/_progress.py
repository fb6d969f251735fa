"""Progress of long loops: tqdm where it is installed, plain lines elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

QUIET_S = 1.0
"""Seconds a loop may run before it shows anything."""

INTERVAL_S = 0.5
"""Seconds between two plain lines."""


def progress(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """Pass `items` on, and show on standard error how many of `total` are done.

    Nothing is shown for a loop that ends within a second.
    """
    bar = _tqdm()
    if bar is None:
        return _plain(items, total, label)
    shown = bar(items, total=total, desc=label, delay=QUIET_S, mininterval=INTERVAL_S, leave=False)
    return iter(shown)


def _tqdm() -> Any:
    """The tqdm class, or None where it is not installed."""
    try:
        return importlib.import_module("tqdm").tqdm
    except ImportError:
        return None


def _plain(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The same without tqdm: a line that is written over while the loop runs."""
    start = time.monotonic()
    shown = start + QUIET_S - INTERVAL_S
    written = False
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= INTERVAL_S:
            rate = count / (now - start)
            sys.stderr.write(f"\r{label}: {count:,}/{total:,} ({rate:,.0f}/s)")
            sys.stderr.flush()
            shown, written = now, True
    if written:
        sys.stderr.write("\n")
