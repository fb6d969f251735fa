"""The names, orders and defaults of arguments that callers of the original rely on."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import synadb
from synadb import (
    CascadeIndex,
    DbConfig,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    SearchResult,
    SynaDB,
    SynaError,
    VectorStore,
)

NEEDED = inspect.Parameter.empty

CALLS: dict[tuple[Any, str], dict[str, Any]] = {
    (SynaError, "__init__"): {"code": NEEDED, "message": None},
    (SynaDB, "__new__"): {"path": NEEDED, "sync_on_write": True},
    (SynaDB, "put_float"): {"key": NEEDED, "value": NEEDED},
    (SynaDB, "put_int"): {"key": NEEDED, "value": NEEDED},
    (SynaDB, "put_text"): {"key": NEEDED, "value": NEEDED},
    (SynaDB, "put_bytes"): {"key": NEEDED, "value": NEEDED},
    (SynaDB, "put_floats_batch"): {"key": NEEDED, "values": NEEDED},
    (SynaDB, "put_numpy"): {"key": NEEDED, "arr": NEEDED},
    (SynaDB, "get_float"): {"key": NEEDED},
    (SynaDB, "get_int"): {"key": NEEDED},
    (SynaDB, "get_text"): {"key": NEEDED},
    (SynaDB, "get_bytes"): {"key": NEEDED},
    # The default dtype is that of the stored array, and float64 for bytes that know none.
    (SynaDB, "get_numpy"): {"key": NEEDED, "dtype": None, "shape": None},
    (SynaDB, "get_history_tensor"): {"key": NEEDED},
    (SynaDB, "delete"): {"key": NEEDED},
    (SynaDB, "exists"): {"key": NEEDED},
    (SynaDB, "keys"): {},
    (SynaDB, "compact"): {},
    (SynaDB, "close"): {},
    (SearchResult, "__new__"): {"key": NEEDED, "score": NEEDED, "vector": NEEDED},
    # The default metric is that of the file, and cosine for a new one. Writes on a path are synced
    # by default, and those of a store on an open database as that has it.
    (VectorStore, "__new__"): {
        "path": NEEDED,
        "dimensions": None,
        "metric": None,
        "backend": "auto",
        "faiss_index_type": "IVF1024,Flat",
        "faiss_nprobe": 10,
        "use_gpu": False,
        "sync_on_write": None,
    },
    (VectorStore, "insert"): {"key": NEEDED, "vector": NEEDED},
    (VectorStore, "insert_batch"): {"keys": NEEDED, "vectors": NEEDED},
    (VectorStore, "insert_batch_fast"): {"keys": NEEDED, "vectors": NEEDED},
    (VectorStore, "search"): {"query": NEEDED, "k": 10},
    (VectorStore, "get"): {"key": NEEDED},
    (VectorStore, "delete"): {"key": NEEDED},
    (VectorStore, "build_index"): {},
    (VectorStore, "flush"): {},
    (VectorStore, "close"): {},
    # The default dimensions and metric are those of the file, and 768 and cosine for a new one.
    (MmapVectorStore, "__new__"): {
        "path": NEEDED,
        "dimensions": None,
        "metric": None,
        "initial_capacity": 100_000,
    },
    (MmapVectorStore, "insert"): {"key": NEEDED, "vector": NEEDED},
    (MmapVectorStore, "insert_batch"): {"keys": NEEDED, "vectors": NEEDED},
    (MmapVectorStore, "search"): {"query": NEEDED, "k": 10},
    (MmapVectorStore, "get"): {"key": NEEDED},
    (MmapVectorStore, "build_index"): {},
    (MmapVectorStore, "checkpoint"): {},
    (MmapVectorStore, "flush"): {},
    (MmapVectorStore, "close"): {},
    (GravityWellIndex, "__new__"): {
        "path": NEEDED,
        "dimensions": None,
        "branching_factor": 16,
        "num_levels": 3,
        "initial_capacity": 100_000,
    },
    (GravityWellIndex, "initialize"): {"sample_vectors": NEEDED},
    (GravityWellIndex, "insert"): {"key": NEEDED, "vector": NEEDED},
    (GravityWellIndex, "insert_batch"): {"keys": NEEDED, "vectors": NEEDED},
    (GravityWellIndex, "search"): {"query": NEEDED, "k": 10, "nprobe": 50},
    (GravityWellIndex, "get"): {"key": NEEDED},
    (GravityWellIndex, "save"): {},
    (GravityWellIndex, "flush"): {},
    (GravityWellIndex, "close"): {},
    # Without them those of the preset, or of the file's cascade; 16 and 80 where there is neither.
    (CascadeIndex, "__new__"): {
        "path": NEEDED,
        "dimensions": None,
        "metric": None,
        "num_probes": None,
        "ef_search": None,
    },
    (CascadeIndex, "insert"): {"key": NEEDED, "vector": NEEDED},
    (CascadeIndex, "insert_batch"): {"keys": NEEDED, "vectors": NEEDED},
    (CascadeIndex, "search"): {"query": NEEDED, "k": 10, "num_probes": None, "ef_search": None},
    (CascadeIndex, "get"): {"key": NEEDED},
    (CascadeIndex, "save"): {},
    (CascadeIndex, "flush"): {},
    (CascadeIndex, "close"): {},
    (HybridVectorStore, "__new__"): {
        "hot_path": NEEDED,
        "cold_path": NEEDED,
        "dimensions": None,
    },
    (HybridVectorStore, "initialize_hot"): {"sample_vectors": NEEDED},
    (HybridVectorStore, "ingest"): {"key": NEEDED, "vector": NEEDED},
    (HybridVectorStore, "ingest_batch"): {"keys": NEEDED, "vectors": NEEDED},
    (HybridVectorStore, "search"): {"query": NEEDED, "k": 10},
    (HybridVectorStore, "search_hot"): {"query": NEEDED, "k": 10},
    (HybridVectorStore, "search_cold"): {"query": NEEDED, "k": 10},
    **{
        (HybridVectorStore, name): {}
        for name in ("promote_to_cold", "hot_count", "cold_count", "flush_hot", "save_cold")
    },
}

PROPERTIES = [
    "dimensions",
    "metric_name",
    "backend",
    "resolved_backend",
    "has_index",
    "faiss_index_type",
    "faiss_nprobe",
    "use_gpu",
    "is_faiss_trained",
]


def name_of(call: Any) -> str:
    return f"{call[0].__name__}.{call[1]}" if isinstance(call, tuple) else ""


@pytest.mark.parametrize("call", CALLS, ids=name_of)
def test_call_takes_the_originals_arguments(call: tuple[Any, str]) -> None:
    kind, method = call
    is_constructor = method == "__new__"
    signature = inspect.signature(kind if is_constructor else getattr(kind, method))
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name != "self"
    ]
    found = {parameter.name: parameter.default for parameter in positional}
    wanted = CALLS[call]
    assert list(found.items())[: len(wanted)] == list(wanted.items())
    assert NEEDED not in list(found.values())[len(wanted) :]


@pytest.mark.parametrize("name", PROPERTIES)
def test_store_has_the_originals_properties(store: VectorStore, name: str) -> None:
    assert not callable(getattr(store, name))


@pytest.mark.parametrize(
    "kind", [SynaDB, VectorStore, MmapVectorStore, GravityWellIndex, CascadeIndex]
)
def test_class_is_a_context_manager_that_returns_itself(kind: Any, path: Any) -> None:
    opened = kind(path) if kind is SynaDB else kind(path, 8)
    with opened as entered:
        assert entered is opened
    assert opened.closed


def test_package_has_the_originals_names_as_far_as_they_are_built() -> None:
    for name in ["SynaDB", "SynaError", "VectorStore", "SearchResult", "DbConfig", "__version__"]:
        assert name in synadb.__all__


def test_configuration_is_that_of_the_documents(path: Any) -> None:
    config = DbConfig(enable_compression=True, enable_delta=True, sync_on_write=False)
    with SynaDB(path, config=config) as db:
        assert db.put_float("k", 1.5) >= 0
        assert db.get_float("k") == 1.5


def test_both_spellings_of_the_dot_product_are_one_metric(path: Any) -> None:
    with VectorStore(path, 2, "dotproduct") as store:
        store.insert("a", [1.0, 2.0])
    with VectorStore(path, 2, "DOT_PRODUCT") as store:
        assert [(hit.key, hit.score) for hit in store.search([1.0, 1.0])] == [("a", -3.0)]


def test_put_returns_offsets_that_ascend(db: SynaDB) -> None:
    offsets = [
        db.put_float("f", 1.0),
        db.put_int("i", 1),
        db.put_text("t", ""),
        db.put_bytes("b", b""),
    ]
    assert offsets == sorted(set(offsets))
    assert all(type(offset) is int and offset > 0 for offset in offsets)


def test_put_floats_batch_returns_a_count(db: SynaDB) -> None:
    assert db.put_floats_batch("k", [1, 2.5, 3]) == 3
    assert db.get_history_tensor("k").tolist() == [1.0, 2.5, 3.0]


def test_building_an_index_changes_no_answer(store: VectorStore) -> None:
    store.insert_batch(["a", "b"], [[1.0] * 8, [2.0] + [1.0] * 7])
    before = store.search([1.0] * 8)
    assert store.build_index() is None
    assert store.search([1.0] * 8) == before
