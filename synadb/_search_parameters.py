"""The parameters of a search of a `HybridVectorStore`, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from synadb._native import KeyFilter

__all__ = ["SearchParameters", "check_names"]


class SearchParameters(TypedDict, total=False):
    """What `VectorStore.search` takes by keyword; `None` is what is not given."""

    exact: bool
    ef_search: int | None
    nprobe: int | None
    candidates: int | None
    num_probes: int | None
    target_recall: float | None
    filter: KeyFilter | Iterable[str] | None


def check_names(call: str, parameters: SearchParameters) -> SearchParameters:
    """The parameters of a call; raises `TypeError` for a name that is none."""
    for name in parameters:
        if name not in SearchParameters.__annotations__:
            raise TypeError(f"{call}() got an unexpected keyword argument {name!r}")
    return parameters
