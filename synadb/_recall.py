"""A recall in the place of the numbers of a search, and the recall that is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from synadb._arguments import INVALID_ARGUMENT
from synadb.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synadb._index_parameters import IndexParameters
    from synadb.reports import MeasuredRecall

__all__ = ["MEASURED_K", "MEASURED_QUERIES", "Usual", "aimed", "check_only_one", "measured"]

OF_SEARCHES = ("ef_search", "nprobe", "num_probes")
"""Parameters of an index that say how it is searched."""

MEASURED_K = 10
MEASURED_QUERIES = 200
"""How many neighbours `stats(recall=True)` looks for, with how many queries at most."""


class Usual(int):
    """A number by default: one that was given is an `int` like any other."""


def check_only_one(
    target_recall: float | None, numbers: Mapping[str, object], whose: str = ""
) -> None:
    """Raises `InvalidArgumentError`, which names both, where a recall and a number are given."""
    given = next(((n, numbers[n]) for n in OF_SEARCHES if numbers.get(n) is not None), None)
    if target_recall is not None and given is not None:
        name, number = given
        raise InvalidArgumentError(
            INVALID_ARGUMENT,
            f"target_recall: it takes the place of {name}: give one of the two, got "
            f"{whose}{target_recall} and {name} {number}",
        )


def aimed(
    target_recall: float | None, given: IndexParameters, own: IndexParameters
) -> IndexParameters:
    """Parameters of a build: those that were given, and a class's own that they leave.

    `target_recall` is the store's. `None` was not given, but for `quantization`. Raises as
    `check_only_one`.
    """
    asked = given.get("target_recall")
    check_only_one(asked, given)
    if asked is None:
        check_only_one(target_recall, given, "the store's ")
    said = {n: v for n, v in given.items() if v is not None or n == "quantization"}
    every: Any = {**own, **said}
    return cast("IndexParameters", every)


def measured(found: tuple[float, int, int]) -> MeasuredRecall:
    """The report of a recall, its k and its queries."""
    recall, k, queries = found
    return {"recall": recall, "k": k, "queries": queries}
