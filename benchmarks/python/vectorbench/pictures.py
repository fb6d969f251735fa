"""Curves as SVG, without a library: recall on a scale of nines, rates on a logarithmic one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from .curves import Point, front, nines

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 48, 52
TICKS = (0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f",
    "#17becf", "#bcbd22", "#9467bd", "#2f4b7c",
)  # fmt: skip
RECALL_MIN = 0.8


def across(recall: float) -> float:
    """The x of a recall."""
    low, high = nines(RECALL_MIN), nines(TICKS[-1])
    share = (min(max(nines(recall), low), high) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def text(x: float, y: float, words: str, more: str = "") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    at = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {at} stroke="#dddddd"/>'


def rate_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten within the limits."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for p in powers for m in (1, 2, 5) if low <= (tick := m * 10.0**p) <= high]


def picture(title: str, curves: dict[str, Iterable[Point]], unit: str, note: str) -> str:
    """One SVG document; ours, whose names begin with synadb, in thick lines."""
    fronts = {
        name: [point for point in front(points) if point.recall >= RECALL_MIN]
        for name, points in curves.items()
    }
    fronts = {name: points for name, points in fronts.items() if points}
    rates = [point.rate for points in fronts.values() for point in points] or [1.0, 10.0]
    low, high = min(rates) / 1.3, max(rates) * 1.3

    def up(rate: float) -> float:
        share = (math.log(rate) - math.log(low)) / (math.log(high) - math.log(low))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 20, title, 'font-size="15"'),
        text(LEFT, 37, note, 'fill="#555555" font-size="11"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "recall@10", 'text-anchor="middle"'),
        text(8, TOP - 2, unit),
    ]
    for tick in TICKS:
        x = across(tick)
        parts.append(line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(text(x, HEIGHT - BOTTOM + 16, f"{tick:g}", 'text-anchor="middle"'))
    for tick in rate_ticks(low, high):
        parts.append(line(LEFT, up(tick), WIDTH - RIGHT, up(tick)))
        parts.append(text(LEFT - 6, up(tick) + 4, f"{tick:,.0f}", 'text-anchor="end"'))
    for number, (name, points) in enumerate(sorted(fronts.items())):
        colour = COLOURS[number % len(COLOURS)]
        width = 3 if name.startswith("synadb") else 1.5
        places = [(across(point.recall), up(point.rate)) for point in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        stroke = f'fill="none" stroke="{colour}" stroke-width="{width}"'
        parts.append(f'<polyline points="{path}" {stroke}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places]
        y = TOP + 12 + 18 * number
        parts.append(line(WIDTH - RIGHT + 14, y - 4, WIDTH - RIGHT + 34, y - 4).replace(
            "#dddddd", f'{colour}" stroke-width="{width}'))  # fmt: skip
        parts.append(text(WIDTH - RIGHT + 40, y, name))
    return "\n".join([*parts, "</svg>"]) + "\n"


def groups(kept: dict[str, list[dict[str, float]]], names: Iterable[str]) -> dict[str, list[Point]]:
    """Points of a saved run by library, ours by kind."""
    found: dict[str, list[Point]] = {}
    for label, points in kept.items():
        name = next((name for name in names if label.startswith(name + " ")), label)
        found.setdefault(name, []).extend(Point(p["recall"], p["rate"]) for p in points)
    return found
