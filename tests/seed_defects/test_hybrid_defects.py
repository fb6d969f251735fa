"""Defects 78 to 81: the hybrid store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from defect_files import WIDTH, cut, flip_stored, random_rows, run_python
from read_log import Log

import synadb
from synadb import CascadeIndex, HybridVectorStore

PROMOTES = """
import os, sys, numpy as np, synadb
rows = np.random.default_rng(7).standard_normal((60, 8)).astype(np.float32)
store = synadb.HybridVectorStore(*sys.argv[1:], 8, maintenance="off")
for n in range(30):
    store.ingest(str(n), rows[n])
store.promote_to_cold()
for n in range(0, 30, 3):
    store.ingest(str(n), rows[30 + n])
store.promote_to_cold()
os._exit(0)
"""


def numbers(count: int) -> list[str]:
    return [str(n) for n in range(count)]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "hot.gwi", tmp_path / "cold.cascade"


def test_defect_78_promotion_empties_the_hot_table_and_the_file_loads(
    paths: tuple[Path, Path],
) -> None:
    rows = random_rows(1000)
    with HybridVectorStore(*paths, WIDTH) as store:
        assert store.ingest_batch(numbers(1000), rows) == 1000
        assert store.promote_to_cold() == 1000
        assert (store.hot_count(), store.cold_count(), len(store)) == (0, 1000, 1000)
        assert store.promote_to_cold() == 0
        assert (store.hot_count(), store.cold_count(), len(store)) == (0, 1000, 1000)
        store.save_cold()
    with CascadeIndex(paths[1]) as index:
        assert len(index) == 1000
    with HybridVectorStore(*paths) as store:
        assert (store.hot_count(), store.cold_count()) == (0, 1000)
        assert [hits[0].key for hits in store.search_batch(rows, 1)] == numbers(1000)


def test_defect_78_writer_that_died_at_any_frame_of_a_promotion_leaves_each_vector_once(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    run_python(PROMOTES, *paths)
    rows = random_rows(60)
    hot, other = tmp_path / "other.gwi", tmp_path / "other.cascade"
    frames = Log(paths[1]).frames
    seen = set()
    for frame in frames:
        for at in (frame.offset + 1, frame.end - 1, frame.end):
            for is_truncated in (False, True) if frame is not frames[0] else (False,):
                other.with_name(other.name + "-ckpt").unlink(missing_ok=True)
                cut(paths[1], other, at, is_truncated)
                with HybridVectorStore(hot, other, WIDTH) as store:
                    keys = store.keys()
                    assert sorted(keys, key=int) == numbers(len(keys))
                    assert store.hot_count() + store.cold_count() == len(keys)
                    found = store.search(rows[0], 100)
                    assert sorted(hit.key for hit in found) == keys
                    seen.add((store.hot_count(), store.cold_count()))
                    for key in keys:
                        old, new = rows[int(key)], rows[(30 + int(key)) % 60]
                        stored = store.get(key)
                        assert stored is not None
                        assert stored.tobytes() in {old.tobytes(), new.tobytes()}
    assert {(n, 0) for n in range(31)} <= seen
    assert {(n, 30 - n) for n in range(11)} <= seen
    assert len(seen) == 31 + 11


@pytest.mark.parametrize("built", [True, False])
def test_defect_79_only_the_newest_version_of_a_promoted_key_is_found(
    paths: tuple[Path, Path], built: bool
) -> None:
    rows = random_rows(400)
    with HybridVectorStore(*paths, WIDTH, metric="euclidean") as store:
        store.ingest_batch(numbers(300), rows[:300])
        store.promote_to_cold()
        if built:
            store.build_cold()
        store.ingest("7", rows[350])
        for _ in range(2):
            assert [(hit.key, hit.score) for hit in store.search(rows[350], 1)] == [("7", 0.0)]
            assert store.search(rows[7], 1)[0].key != "7"
            assert sorted(hit.key for hit in store.search(rows[7], 1000)) == sorted(numbers(300))
            assert len(store) == 300
            store.promote_to_cold()
    with HybridVectorStore(*paths) as store:
        found = store.get("7")
        assert found is not None
        assert found.tobytes() == rows[350].tobytes()


def test_defect_80_opening_keeps_every_vector(paths: tuple[Path, Path]) -> None:
    rows = random_rows(90)
    for turn in range(3):
        with HybridVectorStore(*paths, WIDTH) as store:
            assert (store.hot_count(), store.cold_count()) == (20 * turn, 10 * turn)
            store.initialize_hot(rows[:5])
            first = 30 * turn
            store.ingest_batch([f"cold {n}" for n in range(first, first + 10)], rows[:10])
            if turn == 0:
                store.promote_to_cold()
            else:
                move_alone(paths, first)
            store.ingest_batch([f"hot {n}" for n in range(first, first + 20)], rows[10:30])
    with HybridVectorStore(*paths) as store:
        assert (store.hot_count(), store.cold_count()) == (60, 30)


def move_alone(paths: tuple[Path, Path], first: int) -> None:
    """Moves ten keys as a second handle would: by deletes and a write to the cold table."""
    with HybridVectorStore(*paths) as store, CascadeIndex(paths[1]) as cold:
        for n in range(first, first + 10):
            row = store.get(f"cold {n}")
            assert row is not None
            store.delete(f"cold {n}")
            cold.insert(f"cold {n}", row)


def test_defect_81_wrong_dimension_and_damage_raise_and_untrained_is_exact(
    paths: tuple[Path, Path],
) -> None:
    rows = random_rows(50, 16)
    with HybridVectorStore(*paths, 16, metric="euclidean") as store:
        store.ingest_batch(numbers(50), rows)
        # Nobody called `initialize_hot`.
        assert [hits[0].key for hits in store.search_batch(rows, 1)] == numbers(50)
        for search in (store.search, store.search_hot, store.search_cold):
            with pytest.raises(synadb.DimensionError, match=r"Query has 8.*16"):
                search(rows[0][:8])
            with pytest.raises(synadb.InvalidVectorError):
                search(np.full(16, np.nan))
    flip_stored(paths[1], rows[30].tobytes())
    with HybridVectorStore(*paths, access="read_only") as store:
        for call in (
            lambda: store.search(rows[30]),
            lambda: store.search_hot(rows[30]),
            lambda: store.search_batch(rows),
            lambda: store.get("30"),
        ):
            with pytest.raises(synadb.CorruptionError, match="30"):
                call()
    with HybridVectorStore(*paths) as store:
        with pytest.raises(synadb.CorruptionError, match="30"):
            store.promote_to_cold()
        assert len(store) == 50
