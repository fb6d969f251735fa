"""The checks of `synadb.testing`: all kinds of index pass them, and broken stores do not."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from synadb import (
    CascadeIndex,
    GravityWellIndex,
    InvalidArgumentError,
    MmapVectorStore,
    VectorStore,
)
from synadb.testing import CHECKS, METRICS, check_vector_store

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("cascade", "flat", "gravity_well", "hnsw", "none")
"""What `build_index` knows, of which `none` is no index."""


def plain(path: Path, dimensions: int, metric: str) -> VectorStore:
    """A store whose writes are not synced: nobody pulls the plug here."""
    return VectorStore(path, dimensions, metric, sync_on_write=False)


def test_the_kinds_are_those_of_build_index(store: VectorStore) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        store.build_index("all")
    named = str(raised.value).partition("one of: ")[2]
    assert sorted(named.split(", ")) == sorted(KINDS)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_index_passes(kind: str, metric: str) -> None:
    def build(store: VectorStore) -> None:
        store.build_index(kind, threads=1, seed=3)

    check_vector_store(plain, build, metrics=[metric])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["cascade", "hnsw"])
def test_graphs_pass_where_every_search_walks(kind: str, metric: str) -> None:
    """With a queue of ten a search walks wherever there are more than 480 vectors."""

    def build(store: VectorStore) -> None:
        store.build_index(kind, threads=1, seed=3, ef_search=10)

    check_vector_store(plain, build, metrics=[metric], recall=0.9)


@pytest.mark.parametrize("kind", ["cascade", "hnsw"])
def test_the_recall_of_many_vectors_is_that_of_a_walk(kind: str) -> None:
    """With a queue of 130 it is that of a scan of all codes, which finds everything."""

    def check(queue: int) -> None:
        def build(store: VectorStore) -> None:
            store.build_index(kind, threads=1, seed=3, ef_search=queue)

        check_vector_store(plain, build, metrics=["dot_product"], checks=["many"], recall=1.0)

    check(130)
    with pytest.raises(AssertionError, match="recall 0"):
        check(10)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("cascade", {"ef_search": 10, "num_probes": 1}),
        ("gravity_well", {"nprobe": 1}),
        ("hnsw", {"ef_search": 10}),
    ],
)
def test_index_that_is_another_each_time_is_found(kind: str, parameters: dict[str, Any]) -> None:
    def check(index: Any) -> None:
        check_vector_store(plain, index, metrics=["euclidean"], checks=["same_again"])

    seeds = itertools.count()
    check(lambda store: store.build_index(kind, threads=1, seed=5, **parameters))
    with pytest.raises(AssertionError, match="other answers"):
        check(lambda store: store.build_index(kind, threads=1, seed=next(seeds), **parameters))


def test_a_store_without_an_index_must_find_everything() -> None:
    check_vector_store(plain, metrics=["euclidean"])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", [CascadeIndex, GravityWellIndex, MmapVectorStore])
def test_the_other_stores_pass(kind: type[Any], metric: str) -> None:
    def make(path: Path, dimensions: int, metric: str) -> Any:
        return kind(path, dimensions, metric=metric, sync_on_write=False)

    check_vector_store(make, lambda store: store.build_index(threads=1), metrics=[metric])


class Broken(VectorStore):
    """A store with one fault."""

    def search(self, query: Any, k: int = 10, **how: Any) -> Any:
        return super().search(query, k, **how)


class Forgetful(Broken):
    """Leaves out the nearest."""

    def search(self, query: Any, k: int = 10, **how: Any) -> Any:
        return super().search(query, k + 1, **how)[1:]


class Unfiltered(Broken):
    """Does not look at the filter."""

    def search(self, query: Any, k: int = 10, **how: Any) -> Any:
        return super().search(query, k, **{**how, "filter": None})


class Undying(Broken):
    """Says that it deletes."""

    def delete(self, key: str) -> bool:
        return key in self


class Stale(Broken):
    """Keeps the vector that a key had first."""

    def update(self, key: str, vector: Any) -> None:
        if key not in self:
            super().update(key, vector)
        super().update(key, super().get(key))


class Lenient(Broken):
    """Takes what is not finite for zero."""

    def insert(self, key: str, vector: Any) -> None:
        super().insert(key, [x if abs(x) < 1e30 else 0.0 for x in vector])


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (Forgetful, "nearest"),
        (Forgetful, "one"),
        (Forgetful, "operations"),
        (Unfiltered, "filter"),
        (Undying, "delete"),
        (Undying, "operations"),
        (Stale, "update"),
        (Lenient, "refused"),
    ],
)
def test_a_fault_is_found_and_named(fault: type[VectorStore], check: str) -> None:
    def make(path: Path, dimensions: int, metric: str) -> VectorStore:
        return fault(path, dimensions, metric, sync_on_write=False)

    with pytest.raises(AssertionError) as raised:
        check_vector_store(make, metrics=["cosine"], checks=[check])
    assert any(check in note and "cosine" in note for note in raised.value.__notes__)


def test_too_small_a_recall_is_found() -> None:
    def few(path: Path, dimensions: int, metric: str) -> VectorStore:
        return Narrow(path, dimensions, metric, sync_on_write=False)

    class Narrow(Broken):
        def search(self, query: Any, k: int = 10, **how: Any) -> Any:
            return super().search(query, k, nprobe=1, candidates=1, **how)

    def build(store: VectorStore) -> None:
        store.build_index("gravity_well", cells=200)

    with pytest.raises(AssertionError, match="recall 0"):
        check_vector_store(few, build, metrics=["cosine"], checks=["nearest"], recall=0.99)
    check_vector_store(few, build, metrics=["cosine"], checks=["duplicates"], recall=0.0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"metrics": ["manhattan"]}, "metrics: 'manhattan'"),
        ({"checks": ["speed"]}, "checks: 'speed'"),
        ({"recall": 1.5}, r"recall: .*1\.5"),
        ({"recall": float("nan")}, "recall: .*nan"),
    ],
)
def test_bad_arguments_are_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        check_vector_store(plain, **given)


def test_the_checks_have_names() -> None:
    assert len(CHECKS) >= 14
    check_vector_store(plain, metrics=[], checks=CHECKS)
