"""`CascadeIndex`: its presets, its numbers, what the file keeps of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from index_waits import search_until_indexed

import synadb
from synadb import CascadeIndex, VectorStore
from synadb.cascade import CascadeConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
FLOORS = {"small": 0.95, "large": 0.95, "high_recall": 0.99, "fast_search": 0.90}
"""What the original's table promises of each preset."""


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of real passages and questions, 384 dimensions."""
    with np.load(DATA) as data:
        passages, questions = data["passages_i8"], data["questions_f16"]
    found = np.concatenate([rows.astype(np.float32) for rows in (passages / 127, questions)])
    return np.ascontiguousarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def names(rows: NDArray[np.float32]) -> list[str]:
    return [str(n) for n in range(len(rows))]


def recall(store: VectorStore, queries: NDArray[np.float32], **how: Any) -> float:
    """Share of the ten nearest that a search finds."""
    exact, _ = store.search_batch(queries, 10, exact=True, as_arrays=True)
    near, _ = store.search_batch(queries, 10, as_arrays=True, **how)
    pairs = zip(exact.tolist(), near.tolist(), strict=True)
    return sum(len({*a} & {*b}) for a, b in pairs) / exact.size


@pytest.mark.parametrize("preset", FLOORS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_preset_keeps_its_promise_on_real_embeddings_also_after_reopening(
    path: Path, rows: NDArray[np.float32], preset: str, metric: str
) -> None:
    with CascadeIndex(path, 384, metric, preset=preset) as index:
        index.insert_batch(names(rows[:2500]), rows[:2500])
        index.build_index()
        assert recall(index, rows[2500:2800]) >= FLOORS[preset]
        expected, stats = index.search_batch(rows[2500:2600]), index.index_stats()
    with CascadeIndex(path) as index:
        assert index.config == getattr(CascadeConfig, preset)()
        assert index.index_stats() == stats
        assert index.search_batch(rows[2500:2600]) == expected


def test_numbers_beside_a_preset_replace_its_own(path: Path, rows: NDArray[np.float32]) -> None:
    with CascadeIndex(
        path, 384, preset="LARGE", num_hyperplanes=6, bucket_capacity=90, nprobe=7, ef_search=70
    ) as index:
        index.insert_batch(names(rows[:500]), rows[:500])
        wanted = index.config
        assert (wanted.num_hyperplanes, wanted.num_tables) == (6, 16)
        assert (wanted.bucket_capacity, wanted.graph_neighbors) == (90, 64)
        assert (wanted.nprobe, wanted.ef_search) == (7, 70)
        index.build_index(graph_neighbors=32)
        assert index.config.graph_neighbors == 32
        assert index.config.num_hyperplanes == 6
    with CascadeIndex(path, config=wanted) as index:
        index.build_index()
        assert index.config == wanted
    with CascadeIndex(path, nprobe=9) as index:
        index.build_index()
        assert (index.config.nprobe, index.config.num_hyperplanes) == (9, 6)


def test_search_looks_at_what_the_constructor_says_and_a_call_may_say_otherwise(
    path: Path, rows: NDArray[np.float32]
) -> None:
    def walked(index: CascadeIndex, **how: Any) -> list[list[str]]:
        found, _ = index.search_batch(rows[2500:2900], 10, as_arrays=True, **how)
        return [[str(key) for key in keys] for keys in found]

    with CascadeIndex(path, 384, preset="small") as index:
        index.insert_batch(names(rows[:2500]), rows[:2500])
        index.build_index()
        usual = walked(index)
        short, probed = walked(index, ef_search=1), walked(index, num_probes=1)
        assert usual != short
        assert walked(index, nprobe=1) == probed == walked(index, nprobe=1, num_probes=1)
        one = index.search(rows[2500], 10, ef_search=1)
        assert [hit.key for hit in one] == short[0]
    with CascadeIndex(path, ef_search=1) as index:
        assert walked(index) == short
        assert walked(index, ef_search=100) == usual
    with CascadeIndex(path, num_probes=1) as index, CascadeIndex(path) as other:
        assert walked(index) == probed
        assert walked(other) == usual
    with CascadeIndex(path, preset="fast_search") as index:
        assert walked(index) == walked(index, num_probes=8, ef_search=50)


def test_cascade_builds_where_it_pays_and_keeps_its_numbers(path: Path) -> None:
    random = np.random.default_rng(11)
    centres = random.standard_normal((100, 16), dtype=np.float32)
    spread = random.standard_normal((20_100, 16), dtype=np.float32) * np.float32(0.3)
    many = centres[random.integers(0, 100, 20_100)] + spread
    with CascadeIndex(path, 16, "euclidean", preset="small", graph_neighbors=64) as index:
        index.insert_batch(names(many[:10_000]), many[:10_000])
        assert recall(index, many[20_000:]) == 1.0
        assert not index.has_index
        search_until_indexed(index, many[:32], 10_000)
        index.insert_batch([str(n) for n in range(10_000, 20_000)], many[10_000:20_000])
        assert index.search(many[19_000], 1)[0].key == "19000"
        wanted = index.config
    with CascadeIndex(path) as index:
        search_until_indexed(index, many[:32], 20_000)
        assert index.config == wanted
        assert wanted.graph_neighbors == 64
        assert recall(index, many[20_000:]) >= 0.95


def test_config_is_kept_by_a_pickled_handle(path: Path) -> None:
    config = CascadeConfig.high_recall()
    with (
        CascadeIndex(path, 8, config=config, num_probes=3) as index,
        pickle.loads(pickle.dumps(index)) as other,
    ):
        assert other.config == index.config
        assert (other.config.nprobe, other.config.ef_search) == (3, 500)
        assert other.__getnewargs_ex__() == index.__getnewargs_ex__()


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "preset": ({"preset": "tiny"}, ValueError, "preset: 'tiny'.*small, large, high_recall, fast"),
    "preset type": ({"preset": 3}, TypeError, "preset.*int"),
    "planes": ({"num_hyperplanes": 25}, ValueError, "num_hyperplanes.*0 to 24, got 25"),
    "planes type": ({"num_hyperplanes": "9"}, TypeError, "num_hyperplanes.*str"),
    "tables": ({"num_tables": 65}, ValueError, "num_tables.*1 to 64, got 65"),
    "capacity": ({"bucket_capacity": 0}, ValueError, "bucket_capacity.*got 0"),
    "depth": ({"max_bucket_depth": 17}, ValueError, "max_bucket_depth.*0 to 16, got 17"),
    "neighbours": ({"graph_neighbors": 0}, ValueError, "graph_neighbors.*1 to 128, got 0"),
    "probes": ({"num_probes": 0}, ValueError, "num_probes.*got 0"),
    "probes bool": ({"num_probes": True}, TypeError, "num_probes.*bool"),
    "two probes": ({"num_probes": 2, "nprobe": 3}, ValueError, "nprobe.*num_probes.*3 and 2"),
    "queue": ({"ef_search": -1}, ValueError, "ef_search.*got -1"),
    "config": ({"config": {"nprobe": 3}}, TypeError, "config must be a CascadeConfig, got 'dict'"),
    "config number": ({"config": CascadeConfig(nprobe=0)}, ValueError, "num_probes.*got 0"),
    "two": ({"config": CascadeConfig(), "preset": "small"}, ValueError, "preset.*config"),
    "metric": ({"metric": "l2"}, ValueError, "metric.*l2"),
    "dimensions": ({"dimensions": 0}, ValueError, "0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_argument_is_named_and_no_file_is_made(path: Path, case: str) -> None:
    given, error, message = BAD[case]
    with pytest.raises(error, match=message):
        CascadeIndex(path, **{"dimensions": 8, **given})
    assert not path.exists()


def test_bad_search_is_named(path: Path) -> None:
    with CascadeIndex(path, 8) as index:
        index.insert("k", np.ones(8))
        for given in ({"num_probes": 0}, {"nprobe": 0}, {"ef_search": 0}):
            name = "ef_search" if "ef_search" in given else "num_probes"
            with pytest.raises(synadb.InvalidArgumentError, match=f"{name}.*got 0"):
                index.search(np.ones(8), **given)
        with pytest.raises(synadb.InvalidArgumentError, match=r"nprobe.*num_probes"):
            index.search_batch(np.ones((1, 8)), nprobe=1, num_probes=2)
        with pytest.raises(synadb.DimensionError, match=r"Query has 7.*8"):
            index.search(np.ones(7))
