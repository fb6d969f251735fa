"""Whole stores as a user calls them, one query a call: zvec, Chroma, LanceDB."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from .adapter import Adapter, Configuration, steps
from .sets import Floats

BEAMS = (10, 20, 40, 80, 160, 320)


class Zvec(Adapter):
    """An embedded vector database with HNSW."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [
            Configuration(f"HNSW32 {name}", {"codes": codes}, steps("ef", BEAMS))
            for name, codes in (("f32", "UNDEFINED"), ("int8", "INT8"))
        ]

    def start(self, threads: int) -> Any:
        zvec = import_module("zvec")
        zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=threads, optimize_threads=threads)
        return zvec

    def fill(self, rows: Floats) -> None:
        zvec = self.start(2)
        graph = zvec.HnswIndexParam(
            metric_type=zvec.MetricType.L2 if self.metric == "l2" else zvec.MetricType.IP,
            m=32,
            ef_construction=200,
            quantize_type=getattr(zvec.QuantizeType, self.options["codes"]),
        )
        kind = zvec.DataType.VECTOR_FP32
        vector = zvec.VectorSchema("vector", kind, self.dimensions, index_param=graph)
        schema = zvec.CollectionSchema("vectors", self.fields(zvec), [vector])
        self.store = zvec.create_and_open(path=str(self.folder / "zvec"), schema=schema)
        for start in range(0, len(rows), 1000):
            part = enumerate(rows[start : start + 1000].tolist(), start)
            self.store.insert([
                zvec.Doc(id=str(n), vectors={"vector": row}, fields=self.fields_of(n))
                for n, row in part
            ])  # fmt: skip

    def fields(self, zvec: Any) -> list[Any]:
        """Fields beside the vector."""
        del zvec
        return []

    def fields_of(self, number: int) -> dict[str, Any]:
        """Their values in a row."""
        del number
        return {}

    def build(self, rows: Floats, threads: int) -> None:
        del rows
        self.store.optimize(option=import_module("zvec").OptimizeOption(concurrency=threads))
        self.store.flush()

    def open(self, rows: Floats) -> None:
        del rows
        self.store = self.start(1).open(str(self.folder / "zvec"))

    def set_search(self, **settings: Any) -> None:
        zvec = import_module("zvec")
        refine = self.options["codes"] != "UNDEFINED"
        self.query = zvec.Query
        self.parameters = zvec.HnswQueryParam(ef=settings["ef"], is_using_refiner=refine)

    def search_one(self, query: Floats, k: int) -> Any:
        wanted = self.query(field_name="vector", vector=query, param=self.parameters)
        return self.store.query(queries=wanted, topk=k, output_fields=[])

    def ids(self, answer: Any, k: int) -> Any:
        return super().ids([[int(found.id) for found in one] for one in answer], k)

    def close(self) -> None:
        del self.store


class Chroma(Adapter):
    """Chroma in process, an HNSW database. Changing ef_search of a collection has no effect."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        return [Configuration(f"HNSW16 ef {ef}", {"ef_search": ef}, ({},)) for ef in (60, 240, 480)]

    def client(self) -> Any:
        chroma = import_module("chromadb")
        settings = chroma.Settings(anonymized_telemetry=False)
        return chroma.PersistentClient(str(self.folder / "chroma"), settings=settings)

    def build(self, rows: Floats, threads: int) -> None:
        graph = {
            "space": self.metric,
            "max_neighbors": 16,
            "ef_construction": 200,
            "ef_search": self.options["ef_search"],
            "num_threads": threads,
        }
        made = self.client().create_collection(
            "vectors", configuration={"hnsw": graph}, embedding_function=None
        )
        for start in range(0, len(rows), 5000):
            part = rows[start : start + 5000]
            made.add(ids=[str(start + n) for n in range(len(part))], embeddings=part)

    def open(self, rows: Floats) -> None:
        del rows
        self.store = self.client().get_collection("vectors", embedding_function=None)

    def search_one(self, query: Floats, k: int) -> Any:
        return self.store.query(query_embeddings=query[None], n_results=k, include=[])["ids"][0]

    def ids(self, answer: Any, k: int) -> Any:
        return super().ids([[int(name) for name in one] for one in answer], k)


class Lancedb(Adapter):
    """Columnar files with an HNSW index over scalar codes."""

    @classmethod
    def configurations(cls, metric: str, dimensions: int, rows: int) -> list[Configuration]:
        del metric, dimensions, rows
        sweep = steps("ef", BEAMS[1:], nprobes=1, refine_factor=2)
        return [Configuration("IVF1 HNSW32 SQ", {}, sweep)]

    def table(self) -> Any:
        return import_module("lancedb").connect(str(self.folder / "lance"))

    def fill(self, rows: Floats) -> None:
        arrow = import_module("pyarrow")
        flat = arrow.array(np.ascontiguousarray(rows).ravel())
        columns = {
            "id": np.arange(len(rows)),
            "vector": arrow.FixedSizeListArray.from_arrays(flat, self.dimensions),
        }
        self.store = self.table().create_table("vectors", arrow.table(columns))

    def distance(self) -> str:
        return "l2" if self.metric == "l2" else "dot"

    def build(self, rows: Floats, threads: int) -> None:
        del rows, threads
        graph = {"index_type": "IVF_HNSW_SQ", "num_partitions": 1, "m": 32, "ef_construction": 200}
        self.store.create_index(metric=self.distance(), vector_column_name="vector", **graph)

    def open(self, rows: Floats) -> None:
        del rows
        self.store = self.table().open_table("vectors")

    def search_one(self, query: Floats, k: int) -> Any:
        search = self.store.search(query, vector_column_name="vector")
        search = search.distance_type(self.distance())
        for name, value in self.settings.items():
            search = getattr(search, name)(value)
        return search.limit(k).select(["id"]).to_arrow()["id"].to_numpy()
