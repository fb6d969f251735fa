"""The two tables of a `HybridVectorStore`: read together, indexed, and in an open database."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import CascadeIndex, HybridVectorStore, KeyFilter, SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


def random_rows(count: int, width: int = 16, seed: int = 7) -> NDArray[np.float32]:
    """Rows of float32 from a fixed seed."""
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def names(count: int, first: int = 0) -> list[str]:
    return [f"k{n}" for n in range(first, count)]


def opened(folder: Path, dimensions: int | None = None, **options: Any) -> HybridVectorStore:
    return HybridVectorStore(folder / "hot.gwi", folder / "cold.cascade", dimensions, **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HybridVectorStore]:
    """60 cold vectors and 40 hot ones, 16 dimensions."""
    rows = random_rows(100)
    with opened(tmp_path, 16, metric="euclidean") as store:
        store.ingest_batch(names(60), rows[:60])
        store.promote_to_cold()
        store.ingest_batch(names(100, 60), rows[60:])
        yield store


def test_get_batch_reads_both_tables_bit_for_bit_and_in_order(store: HybridVectorStore) -> None:
    rows = random_rows(100)
    order = np.random.default_rng(1).permutation(100)
    got = store.get_batch([f"k{n}" for n in order] + ["k3"])
    assert (got.dtype, got.shape, got.flags.writeable) == (np.float32, (101, 16), True)
    assert got.tobytes() == np.vstack([rows[order], rows[3:4]]).tobytes()
    store.delete("k5")
    with pytest.raises(synadb.KeyNotFoundError, match="k5"):
        store.get_batch(["k70", "k5"])
    assert store.get_batch(["k5", "k70"], default=2.5).tolist() == [
        [2.5] * 16,
        rows[70].tolist(),
    ]
    assert store.get_batch([]).shape == (0, 16)
    store.ingest("k4", rows[0])
    assert store.get_batch(["k4"]).tobytes() == rows[0].tobytes()


def test_get_batch_refuses_by_name(store: HybridVectorStore) -> None:
    with pytest.raises(TypeError, match="keys"):
        store.get_batch({"a", "b"})
    with pytest.raises(synadb.EmptyKeyError):
        store.get_batch([""], 0.0)
    with pytest.raises(synadb.DimensionError, match="Default"):
        store.get_batch([], [1.0, 2.0])


def test_update_makes_hot_what_there_is_and_refuses_the_unknown(store: HybridVectorStore) -> None:
    rows = random_rows(3, seed=9)
    store.update("k3", rows[0])
    store.update("k99", rows[1])
    assert (store.hot_count(), store.cold_count(), len(store)) == (41, 59, 100)
    assert store["k3"].tobytes() == rows[0].tobytes()
    assert store["k99"].tobytes() == rows[1].tobytes()
    hit = store.search(rows[0], 1)[0]
    assert (hit.key, hit.score, hit.source) == ("k3", 0.0, "hot")
    store.delete("k4")
    before = store.stats()["sequence"]
    for call, error in (
        (lambda: store.update("k4", rows[2]), synadb.KeyNotFoundError),
        (lambda: store.update("new", rows[2]), synadb.KeyNotFoundError),
        (lambda: store.update("", rows[2]), synadb.EmptyKeyError),
        (lambda: store.update("k3", rows[2][:15]), synadb.DimensionError),
        (lambda: store.update("k3", rows[2] * np.nan), synadb.InvalidVectorError),
    ):
        with pytest.raises(error):
            call()
    assert (store.stats()["sequence"], len(store)) == (before, 99)


def test_container_protocol_follows_a_dict(store: HybridVectorStore) -> None:
    assert [*store] == store.keys() == sorted(names(100))
    del store["k7"]
    assert "k7" not in store
    for call in (lambda: store["k7"], lambda: store.__delitem__("k7")):
        with pytest.raises(KeyError, match="k7"):
            call()


def test_arrays_show_each_vector_once_and_views_where_rows_lie_together(
    store: HybridVectorStore,
) -> None:
    rows = random_rows(100)
    # They were promoted in the order of their keys.
    cold = rows[sorted(range(60), key=str)]
    matrix, keys = store.as_array()
    assert keys == [*names(100, 60), *sorted(names(60))], "the hot ones first"
    assert matrix.tobytes() == np.vstack([rows[60:], cold]).tobytes()
    assert (matrix.flags.owndata, matrix.flags.writeable) == (True, False)
    with pytest.raises(ValueError, match=r"copy=False: .*2 places.*as_blocks.*source='hot'"):
        store.as_array(copy=False)
    tables: tuple[tuple[Any, NDArray[np.float32]], ...] = (("hot", rows[60:]), ("cold", cold))
    for source, wanted in tables:
        view, keys = store.as_array(copy=False, source=source)
        assert (view.tobytes(), view.flags.owndata) == (wanted.tobytes(), False)
        assert len(keys) == len(wanted)
        assert store.as_array(copy=True, source=source)[0].flags.owndata
        assert [(block.tobytes(), of) for block, of in store.as_blocks(source=source)] == [
            (wanted.tobytes(), keys)
        ]
    assert [keys for _, keys in store.as_blocks()] == [names(100, 60), sorted(names(60))]
    assert not any(block.flags.owndata for block, _ in store.as_blocks())
    store.promote_to_cold()
    assert sorted(store.as_array()[1]) == sorted(names(100))
    for call in (store.as_array, store.as_blocks):
        with pytest.raises(ValueError, match=r"source: .*'hot' or 'cold'.*'warm'"):
            call(source="warm")
        for wrong in (3, ["hot"], ("hot", "cold"), b"hot"):
            refused = f"source must be 'hot' or 'cold', got '{type(wrong).__name__}'"
            with pytest.raises(TypeError, match=refused):
                call(source=wrong)
    for search in (store.search, store.search_hot, store.search_cold, store.search_batch):
        with pytest.raises(TypeError, match="unexpected keyword argument 'source'"):
            search(rows[0], source=["hot"])


def test_arrays_and_blocks_leave_out_what_a_new_vector_hides(tmp_path: Path) -> None:
    rows = random_rows(10)
    with opened(tmp_path, 16) as store, CascadeIndex(tmp_path / "cold.cascade", 16) as cold:
        store.ingest_batch(names(4), rows[:4])
        cold.insert_batch(names(6, 2), rows[6:])
        for matrix, keys in (store.as_array(), store.as_array(copy=True)):
            assert keys == ["k0", "k1", "k2", "k3", "k4", "k5"]
            assert matrix.tobytes() == np.vstack([rows[:4], rows[8:]]).tobytes()
        assert [keys for _, keys in store.as_blocks()] == [names(4), names(6, 4)]
        # They are the nearest to it, and what they hid is looked for again.
        for k, wanted in [(1, 1), (2, 2), (9, 2)]:
            found = store.search_cold(rows[6], k)
            assert {hit.key for hit in found} <= {"k4", "k5"}
            assert (len(found), {hit.source for hit in found}) == (wanted, {"cold"})
        assert store.search_cold(rows[6], 9, filter=["k2", "k5"])[0].key == "k5"
        assert {hit.key for hit in store.search_hot(rows[6], 9)} == set(names(4))
        assert (store.hot_count(), store.cold_count()) == (4, 4)
        assert store.get_batch(["k2"]).tobytes() == rows[2].tobytes()


def test_build_index_builds_that_of_each_table_or_one(tmp_path: Path) -> None:
    rows = random_rows(3000)
    with opened(tmp_path, 16, preset="small") as store:
        assert store.index_saved is None
        store.build_index()
        assert store.index_stats() == {"hot": None, "cold": None}, "of nothing there is none"
        store.ingest_batch(names(2000), rows[:2000])
        store.promote_to_cold()
        store.ingest_batch(names(3000, 2000), rows[2000:])
        steps: list[tuple[int, int]] = []
        store.build_index(threads=2, progress=lambda done, total: steps.append((done, total)))
        assert store.index_saved is True
        stats = store.index_stats()
        assert {at: (of["kind"], of["rows"]) for at, of in stats.items() if of} == {
            "hot": ("gravity_well", 1000),
            "cold": ("cascade", 2000),
        }
        assert [done for done, total in steps if done == total] == [steps[-1][0]] * 2
        with CascadeIndex(tmp_path / "cold.cascade") as cold:
            assert cold.config == synadb.cascade.CascadeConfig.small()
        store.build_index(source="cold", ef_search=77, target_recall=None)
        with CascadeIndex(tmp_path / "cold.cascade") as cold:
            wanted = synadb.cascade.CascadeConfig.small()
            assert (cold.config.ef_search, cold.config.num_tables) == (77, wanted.num_tables)
        store.build_index("flat", source="hot")
        store.build_index("hnsw", source="cold", m=8)
        stats = store.index_stats()
        assert {at: of["kind"] for at, of in stats.items() if of} == {"hot": "flat", "cold": "hnsw"}
        store.build_index(target_recall=0.95, seed=3)
        assert [of["target_recall"] for of in store.index_stats().values() if of] == [0.95] * 2
        assert store.build_cold(target_recall=0.9) is True
        assert [of["target_recall"] for of in store.index_stats().values() if of] == [0.95, 0.9]
        store.build_index("none")
        assert store.index_stats() == {"hot": None, "cold": None}


def test_bad_build_is_named_and_builds_nothing(store: HybridVectorStore) -> None:
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"kind": "tree"}, ValueError, "kind: 'tree' is unknown"),
        ({"source": "warm"}, ValueError, "source: .*'hot' or 'cold'.*'warm'"),
        ({"source": 3}, TypeError, "source must be 'hot' or 'cold', got 'int'"),
        ({"source": ["hot"]}, TypeError, "source must be 'hot' or 'cold', got 'list'"),
        ({"kind": 3}, TypeError, "kind"),
        ({"nprobe": 3}, ValueError, "nprobe: say by source or kind"),
        ({"preset": "small"}, ValueError, "preset: say by source or kind"),
        ({"kind": "hnsw", "cells": 3}, ValueError, "cells: .*'hnsw' has none"),
        ({"source": "hot", "ef_search": 3}, ValueError, "ef_search: .*'gravity_well' has none"),
        ({"source": "cold", "cells": 3}, ValueError, "cells: .*'cascade' has none"),
        ({"source": "cold", "preset": "tiny"}, ValueError, "preset: 'tiny'"),
        ({"threads": 0}, ValueError, "threads.*0"),
        ({"progress": 3}, TypeError, "progress must be"),
        ({"target_recall": 2}, ValueError, "target_recall: .*2"),
        ({"source": "hot", "links": 3}, TypeError, "unexpected keyword argument 'links'"),
    ]
    for given, error, message in bad:
        with pytest.raises(error, match=message):
            store.build_index(**given)
        assert store.index_stats() == {"hot": None, "cold": None}
        assert store.index_saved is None
    with pytest.raises(synadb.CancelledError):
        store.build_index(progress=lambda *_: False)
    assert store.index_stats() == {"hot": None, "cold": None}


def test_store_in_an_open_database_lies_beside_its_values(path: Path) -> None:
    rows = random_rows(6)
    odd = KeyFilter(["k1", "k3"])
    with SynaDB(path, auto_compact=0.5) as db:
        db.put("note", "word")
        with HybridVectorStore(db, db, 16, metric="euclidean") as store:
            assert (store.hot_path, store.cold_path) == (db.path, db.path)
            store.ingest_batch(names(4), rows[:4])
            store.promote_to_cold()
            store.ingest("k4", rows[4])
            assert {hit.key for hit in store.search(rows[3], filter=odd)} == {"k1", "k3"}
            with VectorStore(db) as cold, VectorStore(db, name="vector:hot/") as hot:
                assert (cold.keys(), hot.keys()) == (names(4), ["k4"])
                with db.batch() as batch:
                    batch.insert(hot, "k5", rows[5])
                    batch.put("note", "other")
            assert (len(store), db["note"]) == (6, "other")
        assert store.closed
        assert not db.closed
        assert db.keys() == ["note"]
        assert db.stats()["tables"]["vector:hot/"] == 2
    with HybridVectorStore(path, path) as store:
        assert (store.dimensions, store.metric, len(store)) == (16, "euclidean", 6)


def test_store_of_a_database_has_768_dimensions_or_those_of_the_file(path: Path) -> None:
    with SynaDB(path) as db:
        with HybridVectorStore(db, db) as store:
            assert store.dimensions == 768
            store.ingest("k", np.ones(768))
        with HybridVectorStore(db, db) as store:
            assert len(store) == 1
        with pytest.raises(synadb.ConfigMismatchError, match=r"768 dim.*16 dim"):
            HybridVectorStore(db, db, 16)
        with pytest.raises(synadb.ConfigMismatchError, match=r"cosine.*euclidean"):
            HybridVectorStore(db, db, metric="euclidean")


def test_store_of_a_database_travels_as_one_on_its_path(path: Path) -> None:
    with (
        SynaDB(path, sync_on_write=False, maintenance="inline") as db,
        HybridVectorStore(db, db, 4, preset="small") as store,
        pickle.loads(pickle.dumps(store)) as copy,
    ):
        store.ingest("k", np.ones(4))
        assert (copy.keys(), copy.cold_path) == (["k"], db.path)
        assert copy.__getnewargs_ex__() == store.__getnewargs_ex__()
        assert copy.__getnewargs_ex__()[1]["maintenance"] == "inline"


def test_reader_of_a_database_moves_with_it(path: Path) -> None:
    with HybridVectorStore(path, path, 4) as writer:
        writer.ingest("a", np.ones(4))
        with SynaDB(path, access="read_only") as db, HybridVectorStore(db, db) as reader:
            writer.ingest("b", np.ones(4))
            writer.promote_to_cold()
            assert (reader.hot_count(), reader.cold_count()) == (1, 0)
            assert db.refresh()
            assert (reader.hot_count(), reader.cold_count()) == (0, 2)
            with pytest.raises(synadb.ReadOnlyError):
                reader.ingest("c", np.ones(4))


def test_bad_place_is_named(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    with SynaDB(path) as db, SynaDB(other) as second:
        bad: list[tuple[Callable[[], Any], type[Exception], str]] = [
            (lambda: HybridVectorStore(db, other, 4), ValueError, r"cold_path: .*SynaDB.*b\.db"),
            (lambda: HybridVectorStore(other, db, 4), ValueError, r"hot_path: .*SynaDB.*b\.db"),
            (lambda: HybridVectorStore(db, second, 4), ValueError, r"hot_path: .*a\.db.*b\.db"),
            (lambda: HybridVectorStore(db, 3, 4), TypeError, "cold_path.*int"),  # type: ignore[arg-type]
            (lambda: HybridVectorStore(db, db, 4, access="read_only"), ValueError, "access: "),
            (lambda: HybridVectorStore(db, db, 4, lock_timeout=1), ValueError, "lock_timeout: "),
            (lambda: HybridVectorStore(db, db, 4, maintenance="off"), ValueError, "maintenance: "),
            (lambda: HybridVectorStore(db, db, 4, preset="tiny"), ValueError, "preset: 'tiny'"),
        ]
        for call, error, message in bad:
            with pytest.raises(error, match=message):
                call()
        db.close()
        with pytest.raises(synadb.DatabaseClosedError):
            HybridVectorStore(db, db, 4)
        assert second.stats()["tables"] == {}
