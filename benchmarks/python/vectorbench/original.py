"""The original synadb, by its own Python API: its four indexes, one search a call."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from .adapter import Adapter, Configuration, Settings, steps
from .sets import Floats

METRICS = {"l2": "euclidean", "ip": "cosine"}
SAMPLE = 10_000
"""Rows that its gravity wells are made of: the most that its documentation recommends."""

PLANS: tuple[tuple[str, tuple[Settings, ...]], ...] = (
    ("mmap", ({},)),
    ("vector", ({},)),
    ("gravity_well", steps("nprobe", (3, 10, 30, 100, 300))),
    (
        "cascade",
        tuple({"num_probes": p, "ef_search": e} for p, e in ((16, 80), (32, 200), (64, 500))),
    ),
)


class Original(Adapter):
    """One of its indexes; the cascade index is built anew whenever it is opened."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [Configuration(kind, {"kind": kind}, sweep) for kind, sweep in PLANS]

    def opened(self) -> Any:
        """The index or store, made or opened."""
        library, kind = import_module("synadb"), self.options["kind"]
        if Path(str(library.__file__)).parents[1].name != "original":
            raise RuntimeError(f"{library.__file__} is not the original")
        path, metric = str(self.folder / kind), METRICS[self.metric]
        if kind == "mmap":
            return library.MmapVectorStore(path, self.dimensions, metric)
        if kind == "vector":
            return library.VectorStore(path, self.dimensions, metric, sync_on_write=False)
        if kind == "cascade":
            return library.CascadeIndex(path, self.dimensions, metric)
        return library.GravityWellIndex(path, self.dimensions)

    def fill(self, rows: Floats) -> None:
        self.store = self.opened()
        if self.options["kind"] in ("mmap", "vector"):
            self.insert(rows)

    def insert(self, rows: Floats) -> None:
        """All rows."""
        self.store.insert_batch([str(number) for number in range(len(rows))], rows)

    def build(self, rows: Floats, threads: int) -> None:
        del threads
        if self.options["kind"] in ("mmap", "vector"):
            self.store.build_index()
            return
        if self.options["kind"] == "gravity_well":
            self.store.initialize(rows[:SAMPLE])
        self.insert(rows)

    def save(self) -> None:
        self.store.flush()
        self.store.close()

    def open(self, rows: Floats) -> None:
        del rows
        self.store = self.opened()

    def search_one(self, query: Floats, k: int) -> Any:
        return self.store.search(query, k, **self.settings)

    def ids(self, answer: Any, k: int) -> Any:
        return super().ids([[int(found.key) for found in one] for one in answer], k)

    def close(self) -> None:
        self.store.close()
