"""A recall that is asked for where deletions or a filter hide what is near a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synadb import KeyFilter, VectorStore

CLUSTERS, WIDTH, COUNT = 40, 96, 12_000
HIDDEN_CLUSTER = 0


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, the cluster of each, and queries of the cluster that is to be hidden."""
    random = np.random.default_rng(5)
    centres = 1.5 * random.standard_normal((CLUSTERS, WIDTH))
    cluster = random.integers(0, CLUSTERS, COUNT)
    rows = (centres[cluster] + random.standard_normal((COUNT, WIDTH))).astype(np.float32)
    queries = centres[HIDDEN_CLUSTER] + random.standard_normal((40, WIDTH))
    return rows, cluster, queries.astype(np.float32)


def filled(path: Path, kind: str, rows: np.ndarray, target: float, **options: str) -> VectorStore:
    store = VectorStore(path, rows.shape[1], metric="euclidean", sync_on_write=False)
    store.insert_batch([str(number) for number in range(len(rows))], rows)
    store.build_index(kind, target_recall=target, **options)
    return store


def recall(
    store: VectorStore,
    queries: np.ndarray,
    k: int,
    filter: KeyFilter | None,
    **numbers: int,
) -> float:
    found = store.search_batch(queries, k, filter=filter, **numbers)
    truth = store.search_batch(queries, k, filter=filter, exact=True)
    return float(
        np.mean(
            [
                len({hit.key for hit in some} & {hit.key for hit in all_}) / k
                for some, all_ in zip(found, truth, strict=True)
            ]
        )
    )


@pytest.mark.parametrize("target", [0.9, 0.99])
@pytest.mark.parametrize("kind", ["flat", "hnsw", "gravity_well", "cascade"])
def test_a_recall_is_reached_where_a_cluster_is_hidden(
    tmp_path: Path, data: tuple[np.ndarray, ...], kind: str, target: float
) -> None:
    """By a filter, then by deletions. An index is tuned on rows whose neighbours are found."""
    rows, cluster, queries = data
    with filled(tmp_path / "a.db", kind, rows, target) as store:
        others = KeyFilter(str(number) for number in np.flatnonzero(cluster != HIDDEN_CLUSTER))
        for k in (10, 100):
            assert recall(store, queries, k, others) >= target, ("filter", k)
        for number in np.flatnonzero(cluster == HIDDEN_CLUSTER):
            store.delete(str(number))
        for k in (10, 100):
            assert recall(store, queries, k, None) >= target, ("deleted", k)


@pytest.mark.parametrize("clusters", [100, 200, 800])
@pytest.mark.parametrize("kind", ["flat", "gravity_well"])
def test_a_recall_is_reached_where_one_of_many_clusters_is_hidden(
    tmp_path: Path, kind: str, clusters: int
) -> None:
    """Most of the cells that are searched have nothing hidden, and the nearest has. Those of the
    rows that are nearest then lie in all the others.
    """
    random = np.random.default_rng(3)
    centres = 1.5 * random.standard_normal((clusters, WIDTH))
    cluster = random.integers(0, clusters, 8_000)
    rows = (centres[cluster] + random.standard_normal((8_000, WIDTH))).astype(np.float32)
    queries = (centres[0] + random.standard_normal((60, WIDTH))).astype(np.float32)
    with filled(tmp_path / "a.db", kind, rows, 0.9) as store:
        others = KeyFilter(str(number) for number in np.flatnonzero(cluster != 0))
        for k in (1, 10, 100):
            assert recall(store, queries, k, others) >= 0.9, ("filter", k)
        for number in np.flatnonzero(cluster == 0):
            store.delete(str(number))
        for k in (1, 10, 100):
            assert recall(store, queries, k, None) >= 0.9, ("deleted", k)


def test_candidates_are_not_raised_where_rows_are_deleted(
    tmp_path: Path, data: tuple[np.ndarray, ...]
) -> None:
    """Ten are ten: what is asked for by numbers finds less than codes can."""
    rows, _, queries = data
    with filled(tmp_path / "a.db", "flat", rows, 0.9) as store:
        for number in range(0, COUNT, 10):
            store.delete(str(number))
        assert recall(store, queries, 10, None, candidates=10) < 0.8


def test_numbers_are_not_raised_where_a_cluster_is_hidden(
    tmp_path: Path, data: tuple[np.ndarray, ...]
) -> None:
    """One cell is one cell: what is asked for by numbers is not looked beyond."""
    rows, cluster, queries = data
    with filled(tmp_path / "a.db", "gravity_well", rows, 0.9) as store:
        others = KeyFilter(str(number) for number in np.flatnonzero(cluster != HIDDEN_CLUSTER))
        assert recall(store, queries, 10, others, nprobe=1) < 0.9


def test_a_recall_is_reached_where_most_of_every_cluster_is_deleted(
    tmp_path: Path, data: tuple[np.ndarray, ...]
) -> None:
    """An inverted file is tuned for more rows than are wanted then. Those of a first cell are
    fewer than that, and more than are wanted: it must not take what lies beyond for found.
    """
    rows, _, _ = data
    random = np.random.default_rng(6)
    with filled(tmp_path / "a.db", "gravity_well", rows, 0.9) as store:
        for number in np.flatnonzero(random.random(COUNT) < 0.62):
            store.delete(str(number))
        queries = rows[::300] + 0.5 * random.standard_normal((COUNT // 300, WIDTH))
        for k in (30, 60, 100):
            assert recall(store, queries.astype(np.float32), k, None) >= 0.9, k


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("width", [16, 96])
def test_a_recall_is_reached_where_a_cluster_and_most_of_the_others_are_hidden(
    tmp_path: Path, seed: int, width: int
) -> None:
    """The cells that are searched have fewer rows that can be found than are wanted, and not so
    many hidden ones that it could not be chance: what lies beyond is no better than any other.
    """
    random = np.random.default_rng(seed)
    centres = 3.0 * random.standard_normal((25, width))
    cluster = np.repeat(np.arange(25), 180)
    random.shuffle(cluster)
    rows = (centres[cluster] + random.standard_normal((len(cluster), width))).astype(np.float32)
    queries = (centres[0] + random.standard_normal((30, width))).astype(np.float32)
    shown = (cluster != 0) & (random.random(len(cluster)) < 0.1)
    with filled(tmp_path / "a.db", "gravity_well", rows, 0.9) as store:
        allowed = KeyFilter(str(number) for number in np.flatnonzero(shown))
        assert recall(store, queries, 10, allowed) >= 0.9, "filter"
        for number in np.flatnonzero(~shown):
            store.delete(str(number))
        assert recall(store, queries, 10, None) >= 0.9, "deleted"
