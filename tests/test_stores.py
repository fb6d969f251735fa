"""What the stores of the original share with `VectorStore`, and what is their own."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from index_waits import search_until_indexed

import synadb
from synadb import CascadeIndex, GravityWellIndex, MmapVectorStore, SynaDB, VectorStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
STORES = (MmapVectorStore, GravityWellIndex, CascadeIndex)
GIVEN: dict[Any, dict[str, Any]] = {
    MmapVectorStore: {"initial_capacity": 7},
    GravityWellIndex: {"num_attractors": 32},
    CascadeIndex: {"preset": "small", "nprobe": 5},
}
METRICS = ("cosine", "euclidean", "dot_product")


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of real passages, 384 dimensions."""
    with np.load(DATA) as data:
        found = data["passages_i8"].astype(np.float32)
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def many() -> NDArray[np.float32]:
    """More vectors than a gravity well scans, around a hundred points."""
    random = np.random.default_rng(11)
    centres = random.standard_normal((100, 16), dtype=np.float32)
    spread = random.standard_normal((24_000, 16), dtype=np.float32) * np.float32(0.3)
    return centres[random.integers(0, 100, 24_000)] + spread


def names(rows: NDArray[np.float32], first: int = 0) -> list[str]:
    return [str(n) for n in range(first, first + len(rows))]


def recall(store: VectorStore, queries: NDArray[np.float32], **how: Any) -> float:
    """Share of the ten nearest that a search finds."""
    exact = store.search_batch(queries, 10, exact=True)
    near = store.search_batch(queries, 10, **how)
    shared = [
        len({x.key for x in a} & {y.key for y in b}) for a, b in zip(exact, near, strict=True)
    ]
    return sum(shared) / sum(map(len, exact))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", STORES)
def test_recall_on_real_vectors_also_after_reopening(
    path: Path, rows: NDArray[np.float32], kind: Any, metric: str
) -> None:
    with kind(path, 384, metric=metric) as store:
        store.insert_batch(names(rows[100:]), rows[100:])
        assert recall(store, rows[:100]) == 1.0
        store.build_index()
        before = store.index_stats()
        found = store.search_batch(rows[:100], 10)
        assert recall(store, rows[:100]) >= 0.95
    with kind(path) as store:
        assert (store.dimensions, store.metric) == (384, metric)
        assert store.index_stats() == before
        assert store.search_batch(rows[:100], 10) == found


@pytest.mark.parametrize("first", [VectorStore, *STORES])
@pytest.mark.parametrize("second", [VectorStore, *STORES])
def test_file_of_one_class_opens_as_any_other(path: Path, first: Any, second: Any) -> None:
    row = np.arange(8, dtype=np.float32)
    with first(path, 8, metric="euclidean") as store:
        store.insert("k", row)
    with second(path) as store:
        assert (store.dimensions, store.metric) == (8, "euclidean")
        assert store["k"].tobytes() == row.tobytes()
        store.insert("l", row)
    with first(path) as store:
        assert store.keys() == ["k", "l"]


@pytest.mark.parametrize("kind", STORES)
def test_stores_of_one_file_see_each_other_and_its_values(path: Path, kind: Any) -> None:
    with SynaDB(path) as db, kind(db, 8) as one, VectorStore(db, 8) as other:
        db.put("note", "word")
        one.insert("k", np.ones(8))
        assert other.search(np.ones(8))[0].key == "k"
        with db.batch() as batch:
            batch.insert(one, "l", np.ones(8))
            batch.put("note", "other")
        assert (len(other), db["note"]) == (2, "other")


@pytest.mark.parametrize("kind", STORES)
def test_new_file_has_768_dimensions_and_cosine(path: Path, kind: Any) -> None:
    with kind(path) as store:
        assert (store.dimensions, store.metric) == (768, "cosine")


@pytest.mark.parametrize("kind", STORES)
def test_other_dimensions_or_metric_are_refused_by_both_values(path: Path, kind: Any) -> None:
    with kind(path, 8, metric="euclidean") as store:
        store.insert("k", np.ones(8))
    with pytest.raises(synadb.ConfigMismatchError, match=r"8 dim.*16 dim"):
        kind(path, 16)
    with pytest.raises(synadb.ConfigMismatchError, match=r"euclidean.*cosine"):
        kind(path, metric="cosine")


@pytest.mark.parametrize("kind", STORES)
def test_deletes_and_updates_through_an_index(
    path: Path, rows: NDArray[np.float32], kind: Any
) -> None:
    with kind(path, 384) as store:
        store.insert_batch(names(rows[:1000]), rows[:1000])
        store.build_index()
        store.delete("8")
        store.update("7", rows[1500])
        store.insert("new", rows[1600])
    with kind(path) as store:
        assert store.has_index
        assert store.search(rows[1500], 1)[0].key == "7"
        assert store.search(rows[1600], 1)[0].key == "new"
        assert {"8"}.isdisjoint(hit.key for hit in store.search(rows[8], 2000))
        assert len(store.search(rows[8], 2000)) == len(store) == 1000
        for key in list(store):
            store.delete(key)
        assert (store.search(rows[0], 10), len(store)) == ([], 0)
        store.insert("8", rows[8])
        assert [hit.key for hit in store.search(rows[8], 10)] == ["8"]


@pytest.mark.parametrize("kind", STORES)
def test_handle_pickles_with_its_metric_and_options(path: Path, kind: Any) -> None:
    with kind(path, 8, metric="dot_product", maintenance="inline", **GIVEN[kind]) as store:
        store.insert("k", np.ones(8))
        with pickle.loads(pickle.dumps(store)) as other:
            assert type(other) is kind
            assert (other.metric, other.keys()) == ("dot_product", ["k"])
            assert other._own_parameters() == store._own_parameters()
            settings = [handle.__getnewargs_ex__()[1] for handle in (store, other)]
            assert settings[0] == settings[1]
            assert settings[0]["sync_on_write"] is False


@pytest.mark.parametrize("kind", STORES)
def test_closed_store_raises_and_names_its_class(path: Path, kind: Any) -> None:
    store = kind(path, 8)
    store.close()
    store.close()
    assert repr(store).startswith(f"{kind.__name__}(")
    for call in (
        lambda: store.insert("k", np.ones(8)),
        lambda: store.search(np.ones(8)),
        store.flush,
        store.checkpoint,
        store.build_index,
        lambda: len(store),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "capacity": (MmapVectorStore, {"initial_capacity": -1}, ValueError, "initial_capacity.*-1"),
    "capacity type": (MmapVectorStore, {"initial_capacity": 1.5}, TypeError, "initial_capacity"),
    "capacity bool": (GravityWellIndex, {"initial_capacity": True}, TypeError, "'bool'"),
    "factor": (GravityWellIndex, {"branching_factor": 0}, ValueError, "branching_factor.*0"),
    "levels": (GravityWellIndex, {"num_levels": 256}, ValueError, "num_levels.*256"),
    "attractors": (GravityWellIndex, {"num_attractors": 0}, ValueError, "num_attractors.*0"),
    "attractors type": (GravityWellIndex, {"num_attractors": "9"}, TypeError, "num_attractors"),
    "metric": (GravityWellIndex, {"metric": "l2"}, ValueError, "metric.*l2"),
    "dimensions": (MmapVectorStore, {"dimensions": 65_536}, ValueError, "65536"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_argument_is_named_and_no_file_is_made(path: Path, case: str) -> None:
    kind, given, error, message = BAD[case]
    with pytest.raises(error, match=message):
        kind(path, **{"dimensions": 8, **given})
    assert not path.exists()


def test_bad_search_of_a_gravity_well_is_named(path: Path) -> None:
    with GravityWellIndex(path, 8) as gwi:
        gwi.insert("k", np.ones(8))
        with pytest.raises(ValueError, match=r"nprobe.*0"):
            gwi.search(np.ones(8), nprobe=0)
        with pytest.raises(ValueError, match=r"candidates.*0"):
            gwi.search(np.ones(8), candidates=0)
        with pytest.raises(ValueError, match=r"candidates.*-2"):
            gwi.search_batch(np.ones((1, 8)), candidates=-2)
        with pytest.raises(ValueError, match=r"k.*-1"):
            gwi.search(np.ones(8), k=-1)
        with pytest.raises(synadb.DimensionError, match=r"Query has 7.*8"):
            gwi.search(np.ones(7))


@pytest.mark.parametrize(
    ("sample", "error", "message"),
    [
        (np.empty((0, 8)), synadb.InvalidArgumentError, "sample_vectors"),
        (np.ones((3, 7)), synadb.DimensionError, r"Sample vectors.*7.*8"),
        (np.full((2, 8), np.nan), synadb.InvalidVectorError, "row 0"),
        ("word", TypeError, r"(?i)sample vectors"),
    ],
)
def test_bad_sample_is_refused(path: Path, sample: Any, error: Any, message: str) -> None:
    with GravityWellIndex(path, 8) as gwi:
        with pytest.raises(error, match=message):
            gwi.initialize(sample)
        assert not gwi.initialized


def test_gravity_well_builds_where_it_pays_and_again_when_it_has_grown(
    path: Path, many: NDArray[np.float32]
) -> None:
    with GravityWellIndex(path, 16, metric="euclidean", num_attractors=64) as gwi:
        assert gwi.num_clusters == 64
        gwi.insert_batch(names(many[:9_900]), many[:9_900])
        assert gwi.search(many[3], 1)[0].key == "3"
        for _ in range(2):
            gwi.search_batch(many[:64], 1)
        time.sleep(0.2)
        assert not gwi.has_index
        gwi.insert_batch(names(many[9_900:10_000], 9_900), many[9_900:10_000])
        assert gwi.search(many[9_999], 1)[0].key == "9999"
        search_until_indexed(gwi, many[:32], 10_000)
        gwi.insert_batch(names(many[10_000:20_000], 10_000), many[10_000:20_000])
        assert gwi.search(many[19_000], 1)[0].key == "19000"
        assert (gwi.index_stats()["rows"], gwi.index_stats()["tail"]) == (10_000, 10_000)
        search_until_indexed(gwi, many[:32], 20_000)
        assert gwi.index_stats()["tail"] == 0
        assert 48 <= gwi.num_clusters <= 96
        assert recall(gwi, many[20_000:20_200], nprobe=16) >= 0.95
        clusters = gwi.num_clusters
    with GravityWellIndex(path) as gwi:
        assert gwi.initialized
        assert (gwi.num_clusters, gwi.index_stats()["rows"]) == (clusters, 20_000)


def test_few_vectors_for_each_cell_are_not_worth_an_index(
    path: Path, many: NDArray[np.float32]
) -> None:
    with GravityWellIndex(path, 16, num_attractors=2_000) as gwi:
        gwi.insert_batch(names(many[:12_000]), many[:12_000])
        for _ in range(2):
            gwi.search_batch(many[:64], 1)
        time.sleep(0.2)
        assert not gwi.has_index
        gwi.insert_batch(names(many[12_000:16_000], 12_000), many[12_000:16_000])
        search_until_indexed(gwi, many[:32], 16_000)


def test_gravity_well_builds_anew_after_a_compaction(path: Path, many: NDArray[np.float32]) -> None:
    with GravityWellIndex(path, 16, metric="euclidean") as gwi:
        gwi.insert_batch(names(many[:12_000]), many[:12_000])
        search_until_indexed(gwi, many[:32], 12_000)
        gwi.compact()
        assert not gwi.has_index
        assert gwi.search(many[5], 1)[0].key == "5"
        search_until_indexed(gwi, many[:32], 12_000)
        assert gwi.index_stats()["kind"] == "gravity_well"


def test_reader_builds_an_index_for_itself_alone(path: Path, many: NDArray[np.float32]) -> None:
    with GravityWellIndex(path, 16) as gwi:
        gwi.insert_batch(names(many[:11_000]), many[:11_000])
    files = {file: file.read_bytes() for file in path.parent.iterdir()}
    with GravityWellIndex(path, access="read_only") as gwi:
        search_until_indexed(gwi, many[:32], 11_000)
        assert gwi.search(many[5], 1)[0].key == "5"
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == files


def test_index_of_another_kind_is_left_alone(path: Path, many: NDArray[np.float32]) -> None:
    with GravityWellIndex(path, 16) as gwi:
        gwi.insert_batch(names(many[:11_000]), many[:11_000])
        gwi.build_index("flat")
        gwi.insert_batch(names(many[11_000:], 11_000), many[11_000:])
        assert gwi.search(many[20_000], 1)[0].key == "20000"
        search_until_indexed(gwi, many[:32], len(gwi))
        assert gwi.index_stats()["kind"] == "flat"


def test_clusters_are_those_that_were_asked_for(path: Path) -> None:
    with GravityWellIndex(path, 8) as gwi:
        assert (gwi.branching_factor, gwi.num_levels, gwi.num_clusters) == (16, 3, 4096)
    with GravityWellIndex(path, 8, 4, 2) as gwi:
        assert (gwi.branching_factor, gwi.num_levels, gwi.num_clusters) == (4, 2, 16)
        gwi.insert_batch(names(np.ones((400, 8))), np.random.default_rng(1).random((400, 8)))
        gwi.save()
        assert not gwi.has_index
        gwi.initialize(np.ones((1, 8)))
        assert 8 <= gwi.num_clusters <= 32


def test_attractors_come_from_the_sample(tmp_path: Path, many: NDArray[np.float32]) -> None:
    stored, queries = many[:8_000], many[8_000:8_200]
    far = np.random.default_rng(3).standard_normal((600, 16), dtype=np.float32) + np.float32(20)
    samples = {"none": None, "itself": stored, "some": many[9_000:12_000], "far": far[:1]}
    sizes: dict[str, list[int]] = {}
    for name, sample in samples.items():
        with GravityWellIndex(tmp_path / name, 16, metric="euclidean", num_attractors=64) as gwi:
            gwi.insert_batch(names(stored), stored)
            if sample is not None:
                gwi.initialize(sample)
            # It is kept for the builds that come.
            gwi.build_index(threads=1)
            sizes[name] = gwi._cell_sizes() or []
            assert recall(gwi, queries, nprobe=24) >= 0.95, name
            assert 32 <= gwi.num_clusters <= 128, name
    assert sizes["none"] == sizes["itself"] == sizes["far"], "what lies elsewhere says nothing"
    assert sizes["some"] != sizes["none"]
    with GravityWellIndex(tmp_path / "late", 16, metric="euclidean", num_attractors=64) as gwi:
        gwi.initialize(many[9_000:12_000])
        assert gwi.initialized
        gwi.insert_batch(names(stored), stored)
        gwi.build_index()
        assert gwi._cell_sizes() == sizes["some"]
        # A build that nobody asks for, of twice as many, begins anew, with the same sample.
        gwi.insert_batch(names(many, 8_000), many)
        search_until_indexed(gwi, many[:32], 32_000)
        before = gwi._cell_sizes()
        gwi.build_index("gravity_well", cells=64)
        assert gwi._cell_sizes() == before


def test_drift_away_from_the_sample_keeps_the_recall(path: Path, many: NDArray[np.float32]) -> None:
    random = np.random.default_rng(5)
    centres = random.standard_normal((100, 16), dtype=np.float32) * np.float32(3)
    drifted = centres[random.integers(0, 100, 12_200)] + random.standard_normal(
        (12_200, 16), dtype=np.float32
    )
    with GravityWellIndex(path, 16, metric="euclidean", num_attractors=64) as gwi:
        gwi.initialize(many[:1_000])
        gwi.insert_batch(names(drifted[:12_000]), drifted[:12_000])
        gwi.build_index()
        sizes = gwi._cell_sizes() or []
        assert max(sizes) <= 16 * sum(sizes) / len(sizes), "large cells are split"
        assert recall(gwi, drifted[12_000:], nprobe=24) >= 0.95


def test_pickled_gravity_well_wants_as_many_cells(path: Path, many: NDArray[np.float32]) -> None:
    with GravityWellIndex(path, 16, 8, 2, sync_on_write=False) as gwi:
        gwi.insert_batch(names(many[:11_000]), many[:11_000])
        with pickle.loads(pickle.dumps(gwi)) as copy:  # our own bytes
            assert (copy.branching_factor, copy.num_levels, copy.num_clusters) == (8, 2, 64)
            search_until_indexed(copy, many[:32], 11_000)
            assert 32 <= copy.num_clusters <= 128
