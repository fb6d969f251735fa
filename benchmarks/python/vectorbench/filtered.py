"""Searches with a filter: ours by a prefix of the key, zvec by a field, FAISS by a bitmap."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from .adapter import Configuration, Settings
from .databases import Zvec
from .lists import Faiss
from .ours import Ours
from .passing import REUSED, Case, buckets, group_of
from .sets import Floats, Ids


class FilteredOurs(Ours):
    """Keys that begin with the bucket of two digits."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        every = super().configurations(metric, dimensions, rows)
        return [one for one in every if one.label in ("hnsw", "gravity_well", "flat")]

    def fill(self, rows: Floats) -> None:
        self.buckets = buckets(len(rows)).tolist()
        super().fill(rows)

    def keys(self, start: int, count: int) -> list[str]:
        return [f"{self.buckets[n]:02d}:{n}" for n in range(start, start + count)]

    def open(self, rows: Floats) -> None:
        super().open(rows)
        self.buckets = buckets(len(rows)).tolist()

    def allow(self, case: Case) -> None:
        """Take one filter for what follows, or make one for each query."""
        self.case = case
        every = self.keys(0, len(self.buckets)) if case.way == "keys" else []
        self.passing: dict[int, list[str]] = {}
        for key, bucket in zip(every, self.buckets, strict=False):
            self.passing.setdefault(group_of(bucket, case.share), []).append(key)
        self.filter = None if case.is_fresh else self.made(REUSED[case.share])

    def made(self, group: int) -> Any:
        """A new filter."""
        kind = import_module("synadb").KeyFilter
        if self.case.way == "keys":
            return kind(self.passing[group])
        return kind(prefix=f"{group}" if self.case.share == 10 else f"{group:02d}:")

    def search(self, queries: Any, k: int) -> Any:
        if self.filter is None:
            return [self.search_one(query, k) for query in queries]
        return self.store.search_batch(
            queries, k, threads=1, as_arrays=True, filter=self.filter, **self.settings
        )[0]

    def search_one(self, query: Any, k: int) -> Any:
        chosen = self.filter
        if chosen is None:
            query, group = query
            chosen = self.made(group)
        return self.store.search(query, k, filter=chosen, **self.settings)

    def ids(self, answer: Any, k: int) -> Ids:
        if not isinstance(answer, np.ndarray):
            answer = [[found.key for found in one] for one in answer]
        named = [[int(key.partition(":")[2]) for key in one if key is not None] for one in answer]
        return super(Ours, self).ids(named, k)


class FilteredZvec(Zvec):
    """An indexed field for the tens of the bucket and one for the bucket; an expression a query."""

    def fields(self, zvec: Any) -> list[Any]:
        index = zvec.InvertIndexParam(enable_range_optimization=True)
        kind = zvec.DataType.INT32
        return [zvec.FieldSchema(name, kind, index_param=index) for name in ("tens", "bucket")]

    def fill(self, rows: Floats) -> None:
        self.buckets = buckets(len(rows)).tolist()
        super().fill(rows)

    def fields_of(self, number: int) -> dict[str, Any]:
        return {"tens": self.buckets[number] // 10, "bucket": self.buckets[number]}

    def allow(self, case: Case) -> None:
        """Take one expression for what follows, or write one for each query."""
        self.case = case
        self.filter = None if case.is_fresh else self.made(REUSED[case.share])

    def made(self, group: int) -> str:
        """An expression."""
        return f"tens = {group}" if self.case.share == 10 else f"bucket = {group}"

    def search_one(self, query: Any, k: int) -> Any:
        chosen = self.filter
        if chosen is None:
            query, group = query
            chosen = self.made(group)
        wanted = self.query(field_name="vector", vector=query, param=self.parameters)
        return self.store.query(queries=wanted, topk=k, filter=chosen, output_fields=[])


class FilteredFaiss(Faiss):
    """A bitmap of the rows that pass, in the parameters of a search."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        every = super().configurations(metric, dimensions, rows)
        return [one for one in every if one.label in ("HNSW32,Flat", every[2].label)]

    def open(self, rows: Floats) -> None:
        super().open(rows)
        self.count = len(rows)

    def set_search(self, **settings: Any) -> None:
        self.settings: Settings = settings
        self.prepare()

    def allow(self, case: Case) -> None:
        """Take one bitmap for what follows."""
        passes = group_of(buckets(self.count), case.share) == REUSED[case.share]
        bits = np.packbits(passes, bitorder="little")
        faiss = import_module("faiss")
        self.bits = bits
        self.selector = faiss.IDSelectorBitmap(self.count, faiss.swig_ptr(bits))
        self.settings = {}

    def prepare(self) -> None:
        """Parameters of the search with the filter."""
        faiss = import_module("faiss")
        is_graph = "HNSW" in self.options["factory"]
        kind = faiss.SearchParametersHNSW if is_graph else faiss.SearchParametersIVF
        self.parameters = kind(sel=self.selector, **self.settings)

    def search(self, queries: Floats, k: int) -> Any:
        return self.index.search(queries, k, params=self.parameters)[1]
