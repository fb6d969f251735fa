"""Defects 54 to 70: the mmap store and the gravity well index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defect_files import WIDTH, random_rows, run_python
from index_waits import search_until_indexed
from sync_waits import become_synced

import synadb
from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    SynaDB,
    VectorStore,
)

KILLED = """
import os, sys, numpy as np, synadb
kind, path = getattr(synadb, sys.argv[1]), sys.argv[2]
rows = np.random.default_rng(7).standard_normal((900, 8)).astype(np.float32)
store = kind(path, 8)
store.insert_batch([str(n) for n in range(400)], rows[:400])
if sys.argv[3] == "flush":
    store.flush()
for n in range(400, 500):
    store.insert(str(n), rows[n])
store.insert_batch([str(n) for n in range(500, 900)], rows[500:])
os._exit(0)
"""


def search_for_an_index(store: VectorStore) -> None:
    search_until_indexed(store, random_rows(32, 64), len(store))


def numbers(count: int) -> list[str]:
    return [str(n) for n in range(count)]


@pytest.mark.parametrize("flushed", ["flush", "never"])
def test_defect_54_killed_writer_loses_no_insert(path: Path, flushed: str) -> None:
    run_python(KILLED, "MmapVectorStore", path, flushed)
    rows = random_rows(900)
    with MmapVectorStore(path, WIDTH) as store:
        assert len(store) == 900
        assert [hits[0].key for hits in store.search_batch(rows, 1)] == numbers(900)


def test_defect_54_checkpoint_has_everything_on_the_medium(path: Path) -> None:
    with MmapVectorStore(path, WIDTH) as store:
        for insert in (
            lambda: store.insert("k", random_rows(1)[0]),
            lambda: store.insert_batch(numbers(9), random_rows(9)),
        ):
            insert()
            store.checkpoint()
            stats = store.stats()
            assert stats["synced_bytes"] == stats["log_bytes"]
            assert stats["tail_bytes"] == 0


@pytest.mark.parametrize("kind", [VectorStore, MmapVectorStore, GravityWellIndex, CascadeIndex])
def test_defect_54_each_insert_is_on_the_medium_in_time(path: Path, kind: Any) -> None:
    rows = random_rows(900)
    with SynaDB(path, sync_on_write=False, sync_interval=0.01) as db, kind(db, WIDTH) as store:
        for write in (
            lambda: store.insert("k", rows[0]),
            lambda: store.insert_batch(numbers(900), rows),
            lambda: store.update("k", rows[1]),
            lambda: store.delete("k"),
        ):
            write()
            assert become_synced(db)


def test_defect_54_each_insert_into_a_hybrid_store_is_on_the_medium_in_time(path: Path) -> None:
    rows = random_rows(900)
    with (
        SynaDB(path, sync_on_write=False, sync_interval=0.01) as db,
        HybridVectorStore(db, db, WIDTH) as store,
    ):
        for write in (
            lambda: store.ingest("k", rows[0]),
            lambda: store.ingest_batch(numbers(900), rows),
            store.promote_to_cold,
        ):
            write()
            assert become_synced(db)


def test_defect_55_overwrite_replaces_and_a_batch_is_found_at_once(path: Path) -> None:
    rows = random_rows(2100, 16)
    with MmapVectorStore(path, 16) as store:
        store.insert_batch(numbers(2000), rows[:2000])
        store.build_index()
        assert store.insert_batch([str(n) for n in range(1900, 2100)], -rows[1900:]) == 100
        hits = [found[0] for found in store.search_batch(-rows[1900:], 1)]
        assert [hit.key for hit in hits] == [str(n) for n in range(1900, 2100)]
        assert len(store) == 2100
        assert store["1900"].tobytes() == (-rows[1900]).tobytes()


@pytest.mark.parametrize("kind", [MmapVectorStore, GravityWellIndex])
def test_defect_56_long_key_is_refused_before_writing(path: Path, kind: Any) -> None:
    rows = random_rows(3)
    with kind(path, WIDTH) as store:
        with pytest.raises(synadb.KeyTooLongError):
            store.insert_batch(["a", "k" * 70_000, "b"], rows)
        assert len(store) == 0
        store.insert_batch(["a", "k" * 65_535, "b"], rows)
    with kind(path) as store:
        assert len(store) == 3
        assert store["k" * 65_535].tobytes() == rows[1].tobytes()


@pytest.mark.parametrize("kind", [MmapVectorStore, GravityWellIndex])
def test_defect_57_damaged_header_is_a_corruption_error(path: Path, kind: Any) -> None:
    with kind(path, WIDTH) as store:
        store.insert("k", random_rows(1)[0])
    content = bytearray(path.read_bytes())
    content[8:64] = bytes(56)
    content[2056:2112] = bytes(56)
    path.write_bytes(content)
    with pytest.raises((synadb.CorruptionError, synadb.NotADatabaseError)):
        kind(path, WIDTH)
    assert path.read_bytes() == content


def test_defect_57_other_metric_is_a_mismatch(path: Path) -> None:
    with MmapVectorStore(path, WIDTH, "euclidean") as store:
        store.insert("k", random_rows(1)[0])
    with pytest.raises(synadb.ConfigMismatchError, match=r"euclidean.*cosine"):
        MmapVectorStore(path, WIDTH, "cosine")


@pytest.mark.parametrize("spelling", ["dot_product", "dotproduct", "DOT_PRODUCT"])
def test_defect_58_dot_product_is_computed(path: Path, spelling: str) -> None:
    with MmapVectorStore(path, 2, metric=spelling) as store:
        store.insert_batch(["long", "near"], [[10.0, 10.0], [1.0, 0.0]])
        assert [(hit.key, hit.score) for hit in store.search([1.0, 0.0])] == [
            ("long", -10.0),
            ("near", -1.0),
        ]
        assert store.metric == "dot_product"


def test_defect_59_get_delete_and_the_vector_of_a_result(path: Path) -> None:
    rows = random_rows(2)
    with MmapVectorStore(path, WIDTH) as store:
        store.insert_batch(["a", "b"], rows)
        assert store.search(rows[0], 1)[0].vector.tobytes() == rows[0].tobytes()
        assert (store.delete("a"), store.delete("a")) == (True, False)
        assert store.get("a") is None
        found = store.get("b")
        assert found is not None
        assert found.tobytes() == rows[1].tobytes()


@pytest.mark.parametrize("kind", [MmapVectorStore, GravityWellIndex])
def test_defect_60_empty_store_takes_next_to_no_space(path: Path, kind: Any) -> None:
    with kind(path, 768, initial_capacity=1_000_000) as store:
        store.insert("k", np.ones(768, dtype=np.float32))
        status = path.stat()
        assert status.st_size < 2 << 20
        assert status.st_blocks * 512 >= store.stats()["log_bytes"]


def test_defect_61_vectors_are_aligned(path: Path) -> None:
    rows = random_rows(50, 17)
    with MmapVectorStore(path, 17) as store:
        for n in range(25):
            store.insert("k" * (n + 1), rows[n])
        store.insert_batch(numbers(25), rows[25:])
    content = path.read_bytes()
    assert [content.index(row.tobytes()) % 64 for row in rows] == [0] * 50


def test_defect_62_opening_keeps_what_the_file_holds(path: Path) -> None:
    rows = random_rows(30)
    with GravityWellIndex(path, WIDTH) as gwi:
        gwi.insert_batch(numbers(30), rows)
    content = path.read_bytes()
    with GravityWellIndex(path, WIDTH, initial_capacity=5) as gwi:
        assert len(gwi) == 30
        assert gwi["7"].tobytes() == rows[7].tobytes()
    assert path.read_bytes()[: len(content)].rstrip(b"\0") == content.rstrip(b"\0")


@pytest.mark.parametrize("flushed", ["flush", "never"])
def test_defect_63_killed_writer_loses_no_vector(path: Path, flushed: str) -> None:
    run_python(KILLED, "GravityWellIndex", path, flushed)
    with GravityWellIndex(path, WIDTH) as gwi:
        assert len(gwi) == 900


def test_defect_64_one_live_entry_a_key_at_its_newest_vector(path: Path) -> None:
    rows = random_rows(600, 16)
    with GravityWellIndex(path, 16) as gwi:
        gwi.insert_batch(numbers(600), rows)
        gwi.build_index()
        for _ in range(3):
            gwi.insert("7", -rows[7])
        assert len(gwi) == 600
    with GravityWellIndex(path) as gwi:
        assert len(gwi) == 600
        found = [hit.key for hit in gwi.search(-rows[7], 600)]
        assert sorted(found) == sorted(numbers(600))
        (hit,) = gwi.search(-rows[7], 1)
        assert (hit.key, hit.vector.tobytes()) == ("7", (-rows[7]).tobytes())
        assert gwi.search(rows[7], 1)[0].key != "7"


def near(gwi: GravityWellIndex, queries: np.ndarray, **how: Any) -> float:
    """Share of the ten nearest that searches find."""
    exact, found = gwi.search_batch(queries, 10, exact=True), gwi.search_batch(queries, 10, **how)
    shared = [
        len({x.key for x in a} & {y.key for y in b}) for a, b in zip(exact, found, strict=True)
    ]
    return sum(shared) / (10 * len(queries))


def test_defect_65_initializing_again_costs_no_recall(path: Path) -> None:
    rows = random_rows(3100, 32)
    with GravityWellIndex(path, 32) as gwi:
        gwi.initialize(rows[:500])
        gwi.insert_batch(numbers(3000), rows[:3000])
        gwi.build_index()
        before = near(gwi, rows[3000:])
        assert before >= 0.9
        # The second sample is not at all like the vectors.
        for sample in (rows[:1000], rows[:300] + 100):
            gwi.initialize(sample)
            assert near(gwi, rows[3000:]) >= before - 0.02


def test_defect_66_half_a_file_and_other_dimensions_are_named_errors(path: Path) -> None:
    with GravityWellIndex(path, 64) as gwi:
        gwi.insert_batch(numbers(500), random_rows(500, 64))
    with pytest.raises(synadb.ConfigMismatchError, match=r"64.*128"):
        GravityWellIndex(path, 128)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(synadb.CorruptionError, match="offset"):
        GravityWellIndex(path, 64)


def test_defect_67_more_cells_than_16_bits_and_exact_keys(path: Path) -> None:
    rows = random_rows(66_500, 2)
    keys = [f"{n}\0\N{SNOWMAN}" for n in range(66_500)]
    with GravityWellIndex(path, 2, metric="euclidean", num_attractors=66_400) as gwi:
        gwi.insert_batch(keys, rows)
        gwi.build_index()
        assert gwi.num_clusters > 65_536
    with GravityWellIndex(path) as gwi:
        assert (len(gwi), gwi.num_clusters > 65_536) == (66_500, True)
        found = [hits[0].key for hits in gwi.search_batch(rows[::700], 1)]
        assert found == keys[::700]


@pytest.mark.parametrize("clusters", [40, 200])
def test_defect_68_default_recall_and_k_hits(path: Path, clusters: int) -> None:
    random = np.random.default_rng(2)
    centres = random.standard_normal((clusters, 64)) * 3
    rows = centres[random.integers(0, clusters, 12_100)] + random.standard_normal((12_100, 64))
    rows = rows.astype(np.float32)
    with GravityWellIndex(path, 64) as gwi:
        gwi.insert_batch(numbers(12_000), rows[:12_000])
        assert near(gwi, rows[12_000:]) >= 0.9
        search_until_indexed(gwi, rows[:32], 12_000)
        assert near(gwi, rows[12_000:]) >= 0.9
        for nprobe in (1, 3):
            answers = gwi.search_batch(rows[12_000:], 50, nprobe=nprobe)
            assert {len(hits) for hits in answers} == {50}


@pytest.mark.parametrize("build", [GravityWellIndex.build_index, search_for_an_index])
def test_defect_68_default_recall_of_vectors_without_any_structure(path: Path, build: Any) -> None:
    rows = random_rows(12_100, 64)
    with GravityWellIndex(path, 64) as gwi:
        gwi.insert_batch(numbers(12_000), rows[:12_000])
        build(gwi)
        few, default = near(gwi, rows[12_000:], nprobe=3), near(gwi, rows[12_000:])
        assert few < 0.3 < 0.9 <= default
        exact = gwi.search_batch(rows[12_000:], 10, exact=True)
        wide = gwi.search_batch(rows[12_000:], 200, nprobe=gwi.num_clusters)
        pairs = zip(exact, wide, strict=True)
        shared = [len({hit.key for hit in a} & {hit.key for hit in b}) for a, b in pairs]
        assert sum(shared) / 1000 >= 0.9


@pytest.mark.parametrize("copies", [10, 40])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot_product"])
def test_defect_68_default_recall_of_copies_of_vectors_without_structure(
    path: Path, metric: str, copies: int
) -> None:
    """Candidates that are a few vectors many times over; ties with the tenth count."""
    rows = np.repeat(random_rows(12_000 // copies, 64), copies, axis=0)
    queries = np.random.default_rng(9).standard_normal((100, 64)).astype(np.float32)
    with GravityWellIndex(path, 64, metric=metric) as gwi:
        gwi.insert_batch(numbers(len(rows)), rows)
        gwi.build_index()
        _, exact = gwi.search_batch(queries, 10, exact=True, as_arrays=True)
        for aim in ({}, {"target_recall": 0.9}):
            _, found = gwi.search_batch(queries, 10, as_arrays=True, **aim)  # type: ignore[arg-type]
            assert np.mean(found <= exact[:, -1:] + 1e-4) >= 0.9, aim


def test_defect_69_untrained_stays_untrained_and_answers_exactly(path: Path) -> None:
    rows = random_rows(40)
    with GravityWellIndex(path, WIDTH) as gwi:
        gwi.insert_batch(numbers(40), rows)
        assert not gwi.initialized
    with GravityWellIndex(path, WIDTH) as gwi:
        assert not gwi.initialized
        assert [hits[0].key for hits in gwi.search_batch(rows, 1, nprobe=1)] == numbers(40)
        assert near(gwi, rows, nprobe=1) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_defect_70_what_is_not_finite_is_refused(path: Path, bad: float) -> None:
    row = np.full(WIDTH, bad, dtype=np.float32)
    with GravityWellIndex(path, WIDTH, metric="euclidean") as gwi:
        for call in (
            lambda: gwi.insert("k", row),
            lambda: gwi.insert_batch(["k"], row[None]),
            lambda: gwi.initialize(row[None]),
            lambda: gwi.search(row),
        ):
            with pytest.raises(synadb.InvalidVectorError):
                call()
        assert len(gwi) == 0


def test_defect_70_same_surface_as_the_other_stores(path: Path) -> None:
    with GravityWellIndex(path, 2, metric="euclidean") as gwi:
        gwi.insert_batch(["a", "b"], [[0.0, 0.0], [3.0, 4.0]])
        assert [(hit.key, hit.score) for hit in gwi.search([0.0, 0.0])] == [("a", 0.0), ("b", 5.0)]
        found = gwi.get("b")
        assert found is not None
        assert found.tolist() == [3.0, 4.0]
        assert gwi.delete("a")
        assert gwi.keys() == ["b"]
