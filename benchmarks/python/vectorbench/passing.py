"""Which rows pass the filters of the filtered rows, and the exact neighbours among them.

Each row is in one of a hundred buckets by chance, which has nothing to do with its vector. A filter
lets pass one bucket (1 %), or the ten whose first digit is the same (10 %). One that is reused is
the same for all queries; with a fresh one for each query these take the filters in turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .sets import TRUTH, VectorSet, exact

SEED = 21
BUCKETS = 100
REUSED = {10: 3, 1: 37}
"""By the share in percent, the group that the reused filter lets pass."""


@dataclass(frozen=True)
class Case:
    """What is filtered for, and how."""

    share: int
    """How many of a hundred rows pass."""
    way: str
    """`reused`, or what a fresh filter is made of: `prefix`, `keys`."""

    @property
    def is_fresh(self) -> bool:
        """Whether each query has its own filter."""
        return self.way != "reused"


def buckets(rows: int) -> npt.NDArray[np.int64]:
    """The bucket of each row."""
    return np.random.default_rng(SEED).integers(BUCKETS, size=rows)


def group_of(bucket: Any, share: int) -> Any:
    """The group of a bucket among those that a filter of a share tells apart."""
    return bucket // share


def groups_of_queries(count: int, case: Case) -> npt.NDArray[np.int64]:
    """The group that each query asks for."""
    if case.is_fresh:
        return np.arange(count) % (BUCKETS // case.share)
    return np.full(count, REUSED[case.share])


def among(data: VectorSet, case: Case) -> VectorSet:
    """A set with the exact neighbours among the rows that pass, and kept beside it.

    Queries of fresh filters are pairs of the query and its group, in a list.
    """
    kind = "fresh" if case.is_fresh else "reused"
    file = data.folder / f"passing-{case.share}-{kind}.npz"
    asked = groups_of_queries(len(data.queries), case)
    if not file.is_file():
        truth = np.full((len(data.queries), TRUTH), -1, np.int64)
        distances = np.full(truth.shape, np.inf)
        groups = group_of(buckets(len(data.rows)), case.share)
        for group in np.unique(asked):
            rows, queries = np.flatnonzero(groups == group), np.flatnonzero(asked == group)
            found = exact(np.asarray(data.rows[rows]), data.queries[queries], data.metric, TRUTH)
            width = found[0].shape[1]
            truth[queries, :width], distances[queries, :width] = rows[found[0]], found[1]
        np.savez(file, truth=truth, distances=distances)
    with np.load(file) as arrays:
        found = replace(data, truth=arrays["truth"], distances=arrays["distances"])
    if not case.is_fresh:
        return found
    pairs: Any = list(zip(data.queries, asked.tolist(), strict=True))
    return replace(found, queries=pairs)
