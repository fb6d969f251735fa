"""Libraries of inverted files and more: FAISS and the RaBitQ library."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from .adapter import EF, PROBES, Adapter, Configuration, Settings, steps
from .sets import Floats


def lists_for(rows: int) -> int:
    """Cells of an inverted file: 512 for the large sets, fewer for few rows."""
    return max(16, min(512, 1 << ((rows // 100).bit_length() - 1)))


class Faiss(Adapter):
    """Any index of its factory."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric
        cells = lists_for(rows)
        beams = steps("efSearch", EF)
        probes = [{"nprobe": n} for n in PROBES if n <= cells]
        refined = tuple(
            {**one, "k_factor_rf": factor} for factor in (4, 16) for one in probes[1:11]
        )
        plans: list[tuple[str, tuple[Settings, ...]]] = [
            ("HNSW16,Flat", beams),
            ("HNSW32,Flat", beams),
            (f"IVF{cells},Flat", tuple(probes)),
            (f"IVF{cells},PQ{dimensions // 4}x4fs,RFlat", refined),
        ]
        return [Configuration(index, {"factory": index}, sweep) for index, sweep in plans]

    def build(self, rows: Floats, threads: int) -> None:
        faiss = import_module("faiss")
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = faiss.index_factory(self.dimensions, self.options["factory"], metric)
        if "HNSW" in self.options["factory"]:
            faiss.ParameterSpace().set_index_parameter(self.index, "efConstruction", 200)
        if not self.index.is_trained:
            self.index.train(rows)
        self.index.add(rows)

    def save(self) -> None:
        import_module("faiss").write_index(self.index, self.file)

    def open(self, rows: Floats) -> None:
        del rows
        faiss = import_module("faiss")
        faiss.omp_set_num_threads(1)
        self.index = faiss.read_index(self.file)

    def set_search(self, **settings: Any) -> None:
        space = import_module("faiss").ParameterSpace()
        for name, value in settings.items():
            space.set_index_parameter(self.index, name, value)

    def search(self, queries: Floats, k: int) -> Any:
        return self.index.search(queries, k)[1]


class FaissFlat(Faiss):
    """Its exact scan, for the row of exact searches."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [Configuration("Flat", {"factory": "Flat"}, ({},))]


class Rabitq(Adapter):
    """A graph with codes beside its links (SymphonyQG), and an inverted file."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions
        cells = lists_for(rows)
        graphs = [("symqg raw R32", 32, 0), ("symqg raw R64", 64, 0), ("symqg 8 bit R32", 32, 8)]
        probes = steps("beam", [n for n in PROBES if n <= cells])
        return [
            *(
                Configuration(label, {"degree": degree, "bits": bits}, steps("beam", EF))
                for label, degree, bits in graphs
            ),
            *(
                Configuration(f"ivf {bits} bit", {"lists": cells, "bits": bits}, probes)
                for bits in (7, 32)
            ),
        ]

    def build(self, rows: Floats, threads: int) -> None:
        library, options = import_module("rabitqlib"), self.options
        data = np.ascontiguousarray(rows)
        if "degree" in options:
            graph = (self.dimensions, options["degree"], self.metric, options["bits"])
            self.index = library.SymqgIndex(*graph)
            self.index.build(data, 200, threads, "pipnn")
            return
        means = library.RaBitQKMeans(self.dimensions, options["lists"], num_threads=threads)
        means.train(data)
        shape = (self.dimensions, len(rows), options["lists"], options["bits"], self.metric)
        self.index = library.IvfIndex(*shape)
        self.index.build(data, means.centroids, means.assignments, threads, True)

    def save(self) -> None:
        self.index.save(self.file)

    def open(self, rows: Floats) -> None:
        del rows
        library = import_module("rabitqlib")
        kind = library.SymqgIndex if "degree" in self.options else library.IvfIndex
        self.index = kind.load(self.file)

    def set_search(self, **settings: Any) -> None:
        self.beam = settings["beam"]

    def search(self, queries: Floats, k: int) -> Any:
        return self.index.search(queries, k, self.beam, num_threads=1)[0]
