"""`HybridVectorStore`: hot and cold vectors of one file, each once whatever happens."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_bad_input import text_of

import synadb
from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridSearchResult,
    HybridVectorStore,
    VectorStore,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of real passages, 384 dimensions."""
    with np.load(DATA) as data:
        return data["passages_i8"].astype(np.float32)


@pytest.fixture(scope="module")
def questions() -> NDArray[np.float32]:
    with np.load(DATA) as data:
        return data["questions_f16"].astype(np.float32)[:200]


def numbers(count: int, first: int = 0) -> list[str]:
    return [str(n) for n in range(first, count)]


def opened(folder: Path, dimensions: int | None = None, **options: Any) -> HybridVectorStore:
    return HybridVectorStore(folder / "hot.gwi", folder / "cold.cascade", dimensions, **options)


def test_search_merges_both_tables_as_one_exact_store_would(
    tmp_path: Path, rows: NDArray[np.float32], questions: NDArray[np.float32]
) -> None:
    with VectorStore(tmp_path / "all.db", 384) as plain:
        plain.insert_batch(numbers(2500), rows)
        exact = [[(hit.key, hit.score) for hit in hits] for hits in plain.search_batch(questions)]
    with opened(tmp_path, 384) as store:
        store.initialize_hot(rows[:100])
        assert store.ingest_batch(numbers(1500), rows[:1500]) == 1500
        assert store.promote_to_cold() == 1500
        assert store.ingest_batch(numbers(2500, 1000), rows[1000:]) == 1000
        assert (store.hot_count(), store.cold_count(), len(store)) == (1500, 1000, 2500)
        found = store.search_batch(questions)
        assert [[(hit.key, hit.score) for hit in hits] for hits in found] == exact
        assert all(
            hit.source == ("hot" if int(hit.key) >= 1000 else "cold")
            for hits in found
            for hit in hits
        )
        assert [store.search(query) for query in questions[:20]] == found[:20]
        assert {hit.source for hit in store.search_hot(questions[0], 50)} == {"hot"}
        assert {hit.source for hit in store.search_cold(questions[0], 50)} == {"cold"}
        assert len(store.search(questions[0], 5000)) == 2500


def test_cascade_and_inverted_file_are_searched_after_reopening(
    tmp_path: Path, rows: NDArray[np.float32], questions: NDArray[np.float32]
) -> None:
    with opened(tmp_path, 384, preset="high_recall") as store:
        store.ingest_batch(numbers(1500), rows[:1500])
        store.promote_to_cold()
        store.build_cold()
        store.ingest_batch(numbers(2500, 1500), rows[1500:])
        store.initialize_hot(rows[:10])
        store.save_cold()
        stats = store.index_stats()
    with opened(tmp_path) as store:
        assert store.index_stats() == stats
        hot, cold = stats["hot"], stats["cold"]
        assert hot is not None
        assert cold is not None
        assert (hot["kind"], hot["rows"], hot["tail"]) == ("gravity_well", 1000, 0)
        assert (cold["kind"], cold["rows"], cold["tail"]) == ("cascade", 1500, 0)
        norms = np.linalg.norm(rows, axis=1)
        near = np.argsort(-(questions @ rows.T) / norms, axis=1)[:, :10]
        pairs = zip(near, store.search_batch(questions), strict=True)
        shared = sum(len({*map(str, a.tolist())} & {hit.key for hit in b}) for a, b in pairs)
        assert shared / near.size >= 0.99


def test_update_and_delete_reach_either_table(tmp_path: Path, rows: NDArray[np.float32]) -> None:
    with opened(tmp_path, 384) as store:
        store.ingest_batch(numbers(20), rows[:20])
        store.promote_to_cold()
        store.ingest("3", rows[30])
        assert (store.hot_count(), store.cold_count()) == (1, 19)
        assert store.delete("3")
        assert store.delete("4")
        assert not store.delete("4")
        assert store.get("3") is None
        assert "4" not in store
        assert "5" in store
        found = store.get("5")
        assert found is not None
        assert found.tobytes() == rows[5].tobytes()
        assert store.keys() == sorted({*numbers(20)} - {"3", "4"})
        assert {hit.key for hit in store.search(rows[3], 100)} == {*store.keys()}


def test_file_is_that_of_the_cold_path_and_other_stores_open_it(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    with CascadeIndex(tmp_path / "cold.cascade", 384) as index:
        index.insert_batch(numbers(50), rows[:50])
    with opened(tmp_path) as store:
        assert (store.dimensions, store.metric, store.cold_count()) == (384, "cosine", 50)
        assert store.search(rows[7], 1) == [HybridSearchResult("7", 0.0, "cold")]
        store.ingest("new", rows[60])
        assert (store.hot_path, store.cold_path) == (
            str(tmp_path / "hot.gwi"),
            str(tmp_path / "cold.cascade"),
        )
    with CascadeIndex(tmp_path / "cold.cascade") as index:
        assert len(index) == 50
    with GravityWellIndex(tmp_path / "cold.cascade", name="vector:hot/") as hot:
        assert hot.keys() == ["new"]
    assert not (tmp_path / "hot.gwi").exists()


def test_one_path_for_both_and_a_hot_file_of_its_own_is_refused(
    tmp_path: Path, rows: NDArray[np.float32]
) -> None:
    with GravityWellIndex(tmp_path / "hot.gwi", 384) as gwi:
        gwi.insert("mine", rows[0])
    content = (tmp_path / "hot.gwi").read_bytes()
    with pytest.raises(synadb.InvalidArgumentError, match=r"hot_path: .*hot\.gwi is there already"):
        opened(tmp_path, 384)
    assert (tmp_path / "hot.gwi").read_bytes() == content
    assert not (tmp_path / "cold.cascade").exists()
    with HybridVectorStore(tmp_path / "hot.gwi", tmp_path / "hot.gwi") as store:
        assert (store.cold_count(), store.hot_count()) == (1, 0)


def test_new_file_has_768_dimensions_and_a_mismatch_names_both(tmp_path: Path) -> None:
    with opened(tmp_path, metric="euclidean") as store:
        assert (store.dimensions, store.metric) == (768, "euclidean")
        store.ingest("k", np.ones(768))
    with opened(tmp_path) as store:
        assert (len(store), store.metric) == (1, "euclidean")
    with pytest.raises(synadb.ConfigMismatchError, match=r"768 dim.*16 dim"):
        opened(tmp_path, 16)
    for dimensions in (None, 768):
        with pytest.raises(synadb.ConfigMismatchError, match=r"euclidean.*cosine"):
            opened(tmp_path, dimensions, metric="cosine")


WRITER = """
import sys, numpy as np, synadb
hot, cold = sys.argv[1:]
rows = np.random.default_rng(7).standard_normal((4000, 8)).astype(np.float32)
store = synadb.HybridVectorStore(hot, cold, 8)
turn = 0
while True:
    for n in range(40):
        store.ingest(str(n), rows[(n + 40 * turn) % 4000])
        print(turn, n, flush=True)
    store.ingest_batch([f"many {n}" for n in range(500)], rows[:500])
    store.promote_to_cold()
    turn += 1
"""


def test_killed_writer_leaves_every_acknowledged_vector_once(tmp_path: Path) -> None:
    rows = np.random.default_rng(7).standard_normal((4000, 8)).astype(np.float32)
    paths = (tmp_path / "hot.gwi", tmp_path / "cold.cascade")
    for pause in np.linspace(0.02, 0.4, 8):
        paths[1].unlink(missing_ok=True)
        command = [sys.executable, "-c", WRITER, *map(str, paths)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(pause)
            os.kill(writer.pid, signal.SIGKILL)
            lines = [first, *writer.stdout]
        acknowledged = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
        with HybridVectorStore(*paths) as store:
            keys = store.keys()
            assert len(keys) == len({*keys}) == len(store)
            assert sorted(hit.key for hit in store.search(rows[0], 10_000)) == keys
            newest = {n: turn for turn, n in acknowledged}
            for n, turn in newest.items():
                found = store.get(str(n))
                assert found is not None
                # The next ingest may have happened, unheard.
                assert found.tobytes() in {
                    rows[(n + 40 * later) % 4000].tobytes() for later in (turn, turn + 1)
                }


def test_handles_of_two_processes_share_the_file(tmp_path: Path) -> None:
    code = """
import sys, numpy as np, synadb
with synadb.HybridVectorStore(*sys.argv[1:]) as store:
    for n in range(200):
        store.ingest(f"other {n}", np.full(8, n + 1))
        if n % 20 == 0:
            store.promote_to_cold()
"""
    with opened(tmp_path, 8, metric="euclidean") as store:
        store.ingest("first", np.zeros(8))
        command = [sys.executable, "-c", code, store.hot_path, store.cold_path]
        with subprocess.Popen(command) as other:
            for n in range(200):
                store.ingest(f"mine {n}", np.full(8, -n - 1))
                store.promote_to_cold()
                assert store.search(np.zeros(8), 1)[0].key == "first"
        assert other.returncode == 0
        assert len(store) == 401
        assert len({hit.key for hit in store.search(np.zeros(8), 1000)}) == 401


def test_reader_moves_on_when_it_is_told_and_writes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, 8) as store:
        store.ingest("a", np.ones(8))
        with opened(tmp_path, access="read_only") as reader:
            store.promote_to_cold()
            assert (reader.hot_count(), reader.cold_count()) == (1, 0)
            assert reader.refresh()
            assert (reader.hot_count(), reader.cold_count()) == (0, 1)
            for call in (
                lambda: reader.ingest("b", np.ones(8)),
                lambda: reader.delete("a"),
                reader.promote_to_cold,
            ):
                with pytest.raises(synadb.ReadOnlyError):
                    call()


def test_handle_pickles_with_its_options(tmp_path: Path) -> None:
    with (
        opened(tmp_path, 8, metric="dot_product", preset="small", maintenance="inline") as store,
        pickle.loads(pickle.dumps(store)) as other,
    ):
        store.ingest("k", np.ones(8))
        assert (other.metric, other.keys()) == ("dot_product", ["k"])
        assert other.__getnewargs_ex__() == store.__getnewargs_ex__()
        assert other.__getnewargs_ex__()[1]["preset"] == "small"
        assert repr(other) == repr(store)


def test_closed_store_raises(tmp_path: Path) -> None:
    store = opened(tmp_path, 8)
    with store as entered:
        assert entered is store
    store.close()
    assert store.closed
    for call in (
        lambda: store.ingest("k", np.ones(8)),
        lambda: store.search(np.ones(8)),
        lambda: store.get("k"),
        lambda: store.delete("k"),
        store.promote_to_cold,
        store.build_cold,
        store.flush_hot,
        store.save_cold,
        store.hot_count,
        store.keys,
        store.index_stats,
        lambda: len(store),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "preset": ({"preset": "tiny"}, ValueError, "preset: 'tiny'.*small, large"),
    "preset type": ({"preset": 3}, TypeError, "(?s)int.*preset"),
    "metric": ({"metric": "l2"}, ValueError, "metric.*l2"),
    "dimensions": ({"dimensions": 65_536}, ValueError, "65536"),
    "access": ({"access": "all"}, ValueError, "access.*all"),
    "sync": ({"sync_on_write": 1}, TypeError, "sync_on_write must be a bool, got 'int'"),
    "timeout": ({"lock_timeout": "1"}, TypeError, "lock_timeout must be a number of seconds"),
    "maintenance": ({"maintenance": "no"}, ValueError, "maintenance.*no"),
    "hot path": ({"hot_path": 3}, TypeError, "hot_path.*int"),
    "cold path": ({"cold_path": None}, TypeError, "cold_path.*None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_argument_is_named_and_no_file_is_made(tmp_path: Path, case: str) -> None:
    given, error, message = BAD[case]
    paths = {"hot_path": tmp_path / "hot.gwi", "cold_path": tmp_path / "cold.cascade"}
    with pytest.raises(error) as caught:
        HybridVectorStore(**{**paths, "dimensions": 8, **given})
    assert re.search(message, text_of(caught.value))
    assert not list(tmp_path.iterdir())


def test_bad_input_is_named_and_changes_nothing(tmp_path: Path) -> None:
    row = np.ones(8)
    with opened(tmp_path, 8) as store:
        store.ingest("k", row)
        sequence = store.stats()["sequence"]
        bad: list[tuple[Any, type[Exception], str]] = [
            (lambda: store.ingest("", row), synadb.EmptyKeyError, "key"),
            (lambda: store.ingest("l", row[:7]), synadb.DimensionError, "7.*8"),
            (lambda: store.ingest(3, row), TypeError, "key"),  # type: ignore[arg-type]
            (lambda: store.ingest("l", row * np.nan), synadb.InvalidVectorError, "component 0"),
            (lambda: store.ingest_batch(["l"], np.ones((2, 8))), ValueError, "keys.*1.*2"),
            (lambda: store.ingest_batch({"l"}, [row]), TypeError, "keys.*set"),
            (lambda: store.ingest_batch(["l", ""], [row, row]), synadb.EmptyKeyError, "(?i)empty"),
            (lambda: store.initialize_hot(np.empty((0, 8))), ValueError, "sample_vectors"),
            (lambda: store.search(row, -1), ValueError, "k: .*-1"),
            (lambda: store.search(row, True), TypeError, "k"),
            (lambda: store.search_hot(row[:7]), synadb.DimensionError, "7.*8"),
            (lambda: store.search_batch([row[:7]]), synadb.DimensionError, "7.*8"),
            (lambda: store.search_batch([row * np.inf]), synadb.InvalidVectorError, "component 0"),
            (lambda: store.delete(""), synadb.EmptyKeyError, "(?i)empty"),
            (lambda: store.build_cold(threads=0), ValueError, "threads.*0"),
        ]
        for call, error, message in bad:
            with pytest.raises(error, match=message):
                call()
        assert (store.stats()["sequence"], len(store)) == (sequence, 1)
        assert (store.search(row, 0), store.search_batch(np.empty((0, 8)))) == ([], [])
