"""What the benchmark asks of a library, in each library's own words; row numbers are the ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .sets import Floats, Ids

Settings = dict[str, Any]


class RefusedError(Exception):
    """A library does not do this here, for a reason of its own."""


@dataclass(frozen=True)
class Configuration:
    """One way to build an index, and the search settings to try on it."""

    label: str
    build: Settings
    sweep: tuple[Settings, ...]


def steps(name: str, values: Sequence[int], **more: Any) -> tuple[Settings, ...]:
    """One setting for each value of a parameter."""
    return tuple({name: value, **more} for value in values)


EF = (10, 14, 20, 28, 40, 56, 80, 120, 160, 240, 320, 480, 640, 960)
PROBES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256)


@dataclass
class Adapter:
    """One library with one configuration of one set.

    `fill`, `build`, `save` make what lies below `folder`, of which `build` alone is timed; `open`
    is called in another process, and after it `set_search` and the searches.
    """

    metric: str
    dimensions: int
    folder: Path
    options: Settings = field(default_factory=dict)

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        """The best settings of the library, for what is measured."""
        raise NotImplementedError

    def fill(self, rows: Floats) -> None:
        """Store the rows, for a store that does so before it builds an index."""

    def build(self, rows: Floats, threads: int) -> None:
        """Index all rows."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the index into the folder, for a library that does not by itself."""

    def open(self, rows: Floats) -> None:
        """Take up what lies in the folder; `rows` for a library that keeps none."""
        raise NotImplementedError

    def set_search(self, **settings: Any) -> None:
        """Apply one entry of the sweep."""
        self.settings = settings

    def allow(self, case: Any) -> None:
        """Search with the filter of a `passing.Case` from now on, or with one for each query."""
        del case
        raise RefusedError("no filters")

    def search(self, queries: Floats, k: int) -> Any:
        """The answers to many queries by one thread, as the library gives them."""
        return [self.search_one(query, k) for query in queries]

    def search_one(self, query: Floats, k: int) -> Any:
        """The answer to one query in one call, as an application makes it."""
        return self.search(query[None], k)

    def ids(self, answer: Any, k: int) -> Ids:
        """Row numbers of what `search` gave, of shape `(queries, k)`, -1 where there are fewer."""
        out = np.full((len(answer), k), -1, np.int64)
        for row, found in enumerate(answer):
            numbers = np.asarray(found, np.int64).ravel()[:k]
            out[row, : len(numbers)] = numbers
        return out

    def bytes(self) -> int | None:
        """What the index says that it takes beside the vectors."""
        return None

    def close(self) -> None:
        """Let go of files."""

    @property
    def file(self) -> str:
        """A path for a library that writes one file."""
        return str(self.folder / "index")
