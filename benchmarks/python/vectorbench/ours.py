"""synadb as a user has it: a store on a file, an index built, reopened, and searched by keys."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from .adapter import EF, Adapter, Configuration, RefusedError, Settings, steps
from .sets import Floats, Ids

METRICS = {"l2": "euclidean", "ip": "cosine"}
PROBES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
CANDIDATES = ((4, (20,)), (16, (30, 60)), (64, (60, 120)), (384, (100, 200, 400)))
"""Candidates that are worth trying up to a number of cells."""
SCANNED = (10, 15, 20, 30, 40, 60, 100, 200, 400)
"""Candidates of a scan of codes, which are 2,000 of its own."""

CELLS = tuple(
    {"nprobe": probes, "candidates": count}
    for probes in PROBES
    for count in next(counts for limit, counts in CANDIDATES if probes <= limit)
)
PLANS: tuple[tuple[str, Settings, tuple[Settings, ...]], ...] = (
    ("hnsw", {}, steps("ef_search", EF)),
    ("hnsw m_max 64", {"m_max": 64}, steps("ef_search", EF)),
    ("gravity_well", {}, CELLS),
    ("cascade", {}, steps("ef_search", EF)),
    ("flat", {}, (*steps("candidates", SCANNED), {})),
    ("exact", {}, ({"exact": True},)),
)
"""What is built of each kind, by its default and otherwise, and searched how."""


class Ours(Adapter):
    """One of our indexes, in a store that was closed and opened again."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [
            Configuration(label, {"kind": label.split()[0], **more}, sweep)
            for label, more, sweep in PLANS
        ]

    def store_at(self, name: str = "store.db", **more: Any) -> Any:
        """The store, opened or made."""
        metric = METRICS[self.metric]
        vectors = import_module("synadb").VectorStore
        options = {"backend": "flat"} if self.options["kind"] == "exact" else {}
        return vectors(
            self.folder / name, self.dimensions, metric, sync_on_write=False, **options, **more
        )

    def fill(self, rows: Floats) -> None:
        self.store = self.store_at()
        for start in range(0, len(rows), 50_000):
            part = np.ascontiguousarray(rows[start : start + 50_000])
            self.store.insert_batch(self.keys(start, len(part)), part)

    def keys(self, start: int, count: int) -> list[str]:
        """Keys of as many rows from one on."""
        return [str(start + n) for n in range(count)]

    def build(self, rows: Floats, threads: int) -> None:
        del rows
        options = {name: value for name, value in self.options.items() if name != "kind"}
        kind = self.options["kind"]
        if kind == "exact":
            return
        try:
            self.store.build_index(kind, threads=threads, **options)
        except import_module("synadb").InvalidArgumentError as error:
            raise RefusedError(str(error)) from error

    def save(self) -> None:
        self.store.close()

    def open(self, rows: Floats) -> None:
        del rows
        self.store = self.store_at()
        stats = self.store.index_stats()
        found = stats["kind"] if stats else "exact"
        if found != self.options["kind"]:
            raise RuntimeError(f"reopened with {found} in place of {self.options['kind']}")

    def search(self, queries: Floats, k: int) -> Any:
        return self.store.search_batch(queries, k, threads=1, as_arrays=True, **self.settings)[0]

    def search_one(self, query: Floats, k: int) -> Any:
        return self.store.search(query, k, **self.settings)

    def ids(self, answer: Any, k: int) -> Ids:
        if not isinstance(answer, np.ndarray):
            answer = [[found.key for found in one] for one in answer]
        named = [[int(key) for key in one if key is not None] for one in answer]
        return super().ids(named, k)

    def bytes(self) -> int | None:
        stats = self.store.index_stats()
        return None if stats is None else int(stats["bytes"])

    def close(self) -> None:
        self.store.close()
