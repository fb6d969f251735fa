"""Rows of filtered searches: their place, for the day when `search` takes a filter.

What is to be measured on minilm, a field that has nothing to do with the vectors letting 10 % and
1 % of the rows pass: one filter reused, at recall .95 (floors 8,000 and 15,000 queries/s, aims
18,000 and 40,000) and at .997 beside zvec (floor 1.5, aim 2 times its rate), and a fresh filter for
each query (stated; aim within half of the reused one's rate).
"""

from __future__ import annotations

import inspect

import synadb

from .peers import OURS
from .plan import Part, Plan, settings_of
from .table import Row

WANTED = (
    ("filtered, 10 % pass, reused, @.95", 8_000.0, 18_000.0, "queries/s"),
    ("filtered, 1 % pass, reused, @.95", 15_000.0, 40_000.0, "queries/s"),
    ("filtered, 10 % pass, reused, @.997", 1.5, 2.0, "x zvec"),
    ("filtered, 1 % pass, reused, @.997", 1.5, 2.0, "x zvec"),
    ("filtered, a fresh filter a query", None, 0.5, "of the reused"),
)


def takes_a_filter() -> bool:
    """Whether a search has a parameter for one."""
    return "filter" in inspect.signature(synadb.VectorStore.search_batch).parameters


def filters(plan: Plan) -> Part:
    """The rows without numbers."""
    why = "this build's search takes no filter"
    if takes_a_filter():
        why = "VectorStore takes filters, this benchmark does not measure them yet"
    rows = [Row(what, None, unit, floor, aim, absent=why) for what, floor, aim, unit in WANTED]
    return rows, settings_of(plan, [OURS], {})
