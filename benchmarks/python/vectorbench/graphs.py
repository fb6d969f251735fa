"""Libraries of graphs: hnswlib, usearch, SVS, VSAG, Glass."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np

from .adapter import EF, Adapter, Configuration, steps
from .sets import Floats


class Hnswlib(Adapter):
    """HNSW over float32 rows."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [Configuration(f"M{m}", {"m": m}, steps("ef", EF)) for m in (16, 32)]

    def build(self, rows: Floats, threads: int) -> None:
        self.graph = import_module("hnswlib").Index(space=self.metric, dim=self.dimensions)
        self.graph.init_index(len(rows), M=self.options["m"], ef_construction=200, random_seed=1)
        self.graph.add_items(rows, num_threads=threads)

    def save(self) -> None:
        self.graph.save_index(self.file)

    def open(self, rows: Floats) -> None:
        self.graph = import_module("hnswlib").Index(space=self.metric, dim=self.dimensions)
        self.graph.load_index(self.file, max_elements=len(rows))
        self.graph.set_num_threads(1)

    def set_search(self, **settings: Any) -> None:
        self.graph.set_ef(settings["ef"])

    def search(self, queries: Floats, k: int) -> Any:
        return self.graph.knn_query(queries, k=k, num_threads=1)[0]


class Usearch(Adapter):
    """HNSW with a choice of element types."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del dimensions, rows
        types = [("f32", 16), ("bf16", 32)] + ([("i8", 32)] if metric == "ip" else [])
        return [Configuration(f"{t} M{m}", {"type": t, "m": m}, steps("ef", EF)) for t, m in types]

    def new(self) -> Any:
        inner = "cos" if self.options["type"] == "i8" else "ip"
        return import_module("usearch.index").Index(
            ndim=self.dimensions,
            metric="l2sq" if self.metric == "l2" else inner,
            dtype=self.options["type"],
            connectivity=self.options["m"],
            expansion_add=200,
        )

    def build(self, rows: Floats, threads: int) -> None:
        self.graph = self.new()
        self.graph.add(np.arange(len(rows), dtype=np.uint64), rows, threads=threads)

    def save(self) -> None:
        self.graph.save(self.file)

    def open(self, rows: Floats) -> None:
        del rows
        self.graph = self.new()
        self.graph.load(self.file)

    def set_search(self, **settings: Any) -> None:
        self.graph.expansion_search = settings["ef"]

    def search(self, queries: Floats, k: int) -> Any:
        return self.graph.search(queries, k, threads=1).keys.reshape(len(queries), -1)

    def search_one(self, query: Floats, k: int) -> Any:
        return self.graph.search(query, k, threads=1).keys


class Svs(Adapter):
    """Vamana over float32, LVQ or LeanVec codes; codes are refused on other than Intel's CPUs."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, rows
        plans = [("f32", 64, {}), ("lvq4x8", 32, {}), ("leanvec", 64, {"dims": dimensions // 2})]
        return [
            Configuration(f"{kind} R{r}", {"kind": kind, "degree": r, **more}, steps("window", EF))
            for kind, r, more in plans
        ]

    def compressing(self, rows: Any) -> Any:
        """The loader that makes codes of full vectors."""
        svs = import_module("svs")
        if self.options["kind"] == "lvq4x8":
            return svs.LVQLoader(rows, primary=4, residual=8, strategy=svs.LVQStrategy.Auto)
        kinds = {
            "primary_kind": svs.LeanVecKind.lvq8,
            "secondary_kind": svs.LeanVecKind.float16,
        }
        return svs.LeanVecLoader(rows, self.options["dims"], **kinds)

    def saved(self, folder: str) -> Any:
        """The loader of what `save` wrote."""
        svs = import_module("svs")
        if self.options["kind"] == "f32":
            return svs.VectorDataLoader(folder, svs.DataType.float32, dims=self.dimensions)
        if self.options["kind"] == "lvq4x8":
            return svs.LVQLoader(folder, strategy=svs.LVQStrategy.Auto)
        return svs.LeanVecLoader(folder)

    def distance(self) -> Any:
        kinds = import_module("svs").DistanceType
        return kinds.L2 if self.metric == "l2" else kinds.MIP

    def build(self, rows: Floats, threads: int) -> None:
        svs = import_module("svs")
        parameters = svs.VamanaBuildParameters(
            alpha=1.2 if self.metric == "l2" else 0.95,
            graph_max_degree=self.options["degree"],
            window_size=200,
        )
        data: Any = np.ascontiguousarray(rows)
        if self.options["kind"] != "f32":
            path = str(self.folder / "rows.fvecs")
            svs.write_vecs(data, path)
            data = self.compressing(
                svs.VectorDataLoader(path, svs.DataType.float32, dims=self.dimensions)
            )
        self.graph = svs.Vamana.build(parameters, data, self.distance(), num_threads=threads)

    def save(self) -> None:
        self.graph.save(*(f"{self.file}-{part}" for part in ("config", "graph", "data")))

    def open(self, rows: Floats) -> None:
        del rows
        svs = import_module("svs")
        graph = svs.GraphLoader(f"{self.file}-graph")
        self.graph = svs.Vamana(
            f"{self.file}-config",
            graph,
            self.saved(f"{self.file}-data"),
            self.distance(),
            num_threads=1,
        )

    def set_search(self, **settings: Any) -> None:
        svs = import_module("svs")
        parameters = self.graph.search_parameters
        parameters.buffer_config = svs.SearchBufferConfig(settings["window"], settings["window"])
        parameters.search_buffer_visited_set = False
        self.graph.search_parameters = parameters

    def search(self, queries: Floats, k: int) -> Any:
        return self.graph.search(queries, k)[0]


class Vsag(Adapter):
    """A hierarchical graph with scalar codes and a float32 re-ranking; one query a call."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [
            Configuration(f"sq8u R{degree}", {"degree": degree}, steps("ef", EF))
            for degree in (32, 64)
        ]

    def new(self, threads: int) -> Any:
        parameters = {
            "base_quantization_type": "sq8_uniform",
            "max_degree": self.options["degree"],
            "ef_construction": 300,
            "build_thread_count": threads,
            "use_reorder": True,
            "precise_quantization_type": "fp32",
        }
        setup = {
            "dtype": "float32",
            "metric_type": self.metric,
            "dim": self.dimensions,
            "index_param": parameters,
        }
        return import_module("pyvsag").Index("hgraph", json.dumps(setup))

    def build(self, rows: Floats, threads: int) -> None:
        self.index = self.new(threads)
        ids = np.arange(len(rows), dtype=np.int64)
        self.index.build(
            vectors=np.ascontiguousarray(rows).ravel(),
            ids=ids,
            num_elements=len(rows),
            dim=self.dimensions,
        )

    def save(self) -> None:
        self.index.save(self.file)

    def open(self, rows: Floats) -> None:
        del rows
        self.index = self.new(1)
        self.index.load(self.file)

    def set_search(self, **settings: Any) -> None:
        self.parameters = json.dumps({"hgraph": {"ef_search": settings["ef"]}})

    def search_one(self, query: Floats, k: int) -> Any:
        answer = self.index.knn_search(vector=query, k=k, parameters=self.parameters)
        return answer[0] if answer[0].dtype == np.int64 else answer[1]


class Glass(Adapter):
    """HNSW with 8-bit codes and refinement, of the portable build."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        plans = [("SQ8U", "FP32"), ("SQ8", "FP32")]
        return [
            Configuration(f"{code} R32", {"codes": code, "refine": refine}, steps("ef", EF))
            for code, refine in plans
        ]

    def words(self) -> str:
        return "L2" if self.metric == "l2" else "IP"

    def build(self, rows: Floats, threads: int) -> None:
        glass = import_module("glass")
        glass.set_num_threads(threads)
        self.graph = glass.Index("HNSW", self.words(), "FP32", 32, 200).build(
            np.ascontiguousarray(rows)
        )

    def save(self) -> None:
        self.graph.save(self.file)

    def open(self, rows: Floats) -> None:
        glass = import_module("glass")
        glass.set_num_threads(1)
        self.graph = glass.Graph(self.file)
        self.searcher = glass.Searcher(
            self.graph,
            np.ascontiguousarray(rows),
            self.words(),
            self.options["codes"],
            self.options["refine"],
        )
        self.searcher.set_ef(64)
        self.searcher.optimize(1)

    def set_search(self, **settings: Any) -> None:
        self.searcher.set_ef(settings["ef"])

    def search(self, queries: Floats, k: int) -> Any:
        return self.searcher.batch_search(queries, k, 1)[0]

    def search_one(self, query: Floats, k: int) -> Any:
        return self.searcher.search(query, k)[0]
