"""Curves of recall and rate: their front, and the rate at a recall."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

TARGETS = (0.90, 0.95, 0.99, 0.999)
NEARLY = 0.8
"""An index this much slower than the best, when all are tried, may still be the fastest."""


@dataclass(frozen=True)
class Point:
    """What one setting of a search found, and how many searches a second."""

    recall: float
    rate: float
    label: str = ""
    curve: str = ""
    """What was built: nothing is read between points of two indexes."""


@dataclass(frozen=True)
class Rate:
    """A rate over all rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance between the best and the worst round, as a share of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.median


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both recall and rate, recall ascending."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.recall, p.rate), reverse=True):
        if not kept or point.rate > kept[-1].rate:
            kept.append(point)
    return kept[::-1]


def nines(recall: float) -> float:
    """Minus the logarithm of what is missed, which recall curves are close to straight over."""
    return -math.log10(max(1.0 - recall, 1e-5))


def by_curve(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Points of each index."""
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.curve, []).append(point)
    return found


def rate_at(points: Iterable[Point], target: float) -> float | None:
    """The rate at a recall of the index that is the fastest there."""
    rates = [rate_on(curve, target) for curve in by_curve(points).values()]
    return max((rate for rate in rates if rate is not None), default=None)


def rate_on(curve: Iterable[Point], target: float) -> float | None:
    """The rate of one index at a recall, log(rate) being linear in `nines` between two settings.

    Nothing is extrapolated: `None` above the best recall; below the lowest that one's rate.
    """
    edge = front(curve)
    if not edge or edge[-1].recall < target:
        return None
    for left, right in pairwise(edge):
        if left.recall < target <= right.recall:
            near, far = nines(left.recall), nines(right.recall)
            share = (nines(target) - near) / (far - near)
            return math.exp((1 - share) * math.log(left.rate) + share * math.log(right.rate))
    return edge[0].rate


def needed(points: Sequence[Point], targets: Iterable[float] = TARGETS) -> set[str]:
    """Labels of the points that `rate_at` looks at for the targets, of all that may be the fastest.

    The lowest of each front is among them, for lower recalls.
    """
    curves = by_curve(points).values()
    labels = set()
    for target in (0.0, *targets):
        best = rate_at(points, target)
        for curve in curves:
            rate, edge = rate_on(curve, target), front(curve)
            if best is None or rate is None or rate < NEARLY * best:
                continue
            above = next(n for n, point in enumerate(edge) if point.recall >= target)
            labels |= {edge[n].label for n in (above - 1, above) if n >= 0}
    return labels


def over_rounds(rounds: Sequence[Sequence[Point]], target: float) -> Rate | None:
    """The rate at a recall in each of the rounds."""
    found = [rate_at(points, target) for points in rounds]
    reached = tuple(rate for rate in found if rate is not None)
    return Rate(reached) if reached and len(reached) == len(found) else None
