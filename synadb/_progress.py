"""Progress of long loops and calls: tqdm where it is installed, plain lines elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Report: TypeAlias = Callable[[int, int], object]
"""A function of bytes done and bytes in all; it ends the call by returning `False` itself, and not
by what merely counts as false."""

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


@contextmanager
def reporting(wanted: bool | Report | None, label: str) -> Iterator[Report | None]:
    """Give the function that a long call tells how far it is: the caller's, or a bar for `True`.

    Raises `TypeError` for what is neither a bool nor a function.
    """
    if wanted is None or wanted is False:
        yield None
    elif wanted is not True:
        if not callable(wanted):
            raise TypeError(f"progress must be a bool or a function, got {wanted!r}")
        yield wanted
    elif (bar := _tqdm()) is None:
        line = _Line(label)
        try:
            yield line.show
        finally:
            line.end()
    else:
        options = {"unit": "B", "unit_scale": True, "delay": QUIET_S, "leave": False}
        with bar(desc=label, mininterval=INTERVAL_S, **options) as shown:

            def move(done: int, total: int) -> None:
                shown.total = total
                shown.update(done - shown.n)

            yield move


def _tqdm() -> Any:
    """The tqdm class, or None where it is not installed."""
    try:
        return importlib.import_module("tqdm").tqdm
    except ImportError:
        return None


class _Line:
    """The same without tqdm: a line that is written over while the work goes on."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._start = time.monotonic()
        self._shown = self._start + QUIET_S - INTERVAL_S
        self._written = False

    def show(self, count: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown >= INTERVAL_S:
            rate = count / (now - self._start)
            sys.stderr.write(f"\r{self._label}: {count:,}/{total:,} ({rate:,.0f}/s)")
            sys.stderr.flush()
            self._shown, self._written = now, True

    def end(self) -> None:
        if self._written:
            sys.stderr.write("\n")


def _plain(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    line = _Line(label)
    for count, item in enumerate(items, start=1):
        yield item
        line.show(count, total)
    line.end()
