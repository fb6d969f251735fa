"""The parameters of `VectorStore.build_index`, for type checkers."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["IndexParameters"]


class IndexParameters(TypedDict, total=False):
    """Each is an `int`, the preset a `str` and the recall a number; `None` is what is not given.

    But for `quantization`: of that `None` is full precision, and `"auto"` what is not given.
    """

    m: int | None
    m_max: int | None
    ef_construction: int | None
    ef_search: int | None
    cells: int | None
    nprobe: int | None
    preset: str | None
    num_hyperplanes: int | None
    num_tables: int | None
    bucket_capacity: int | None
    max_bucket_depth: int | None
    graph_neighbors: int | None
    num_probes: int | None
    seed: int | None
    target_recall: float | None
    quantization: Literal["auto", "1bit"] | None
