"""`sync_on_write` of stores: their own on a path, that of the database on an open one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import synadb
from synadb import (
    CascadeIndex,
    DbConfig,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    SynaDB,
    VectorStore,
)

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (VectorStore, MmapVectorStore, GravityWellIndex, CascadeIndex, HybridVectorStore)


def opened(kind: Any, place: Path | SynaDB, **options: Any) -> Any:
    places = (place, place) if kind is HybridVectorStore else (place,)
    return kind(*places, 8, **options)


def syncs(store: Any) -> bool:
    """What the handle does, which it takes along to another process."""
    is_on: bool = store.__getnewargs_ex__()[1]["sync_on_write"]
    return is_on


@pytest.mark.parametrize("kind", KINDS)
def test_store_on_a_path_syncs_as_its_class_does_or_as_it_is_told(path: Path, kind: Any) -> None:
    for given, wanted in [(None, kind is VectorStore), (True, True), (False, False)]:
        with opened(kind, path, sync_on_write=given) as store:
            assert syncs(store) is wanted
    with opened(kind, path) as store:
        assert syncs(store) is (kind is VectorStore)


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_store_on_a_database_syncs_as_that_does(path: Path, kind: Any, is_on: bool) -> None:
    for options in ({"sync_on_write": is_on}, {"config": DbConfig(sync_on_write=is_on)}):
        with SynaDB(path, **options) as db:
            for given in ({}, {"sync_on_write": None}, {"sync_on_write": is_on}):
                with opened(kind, db, **given) as store:
                    assert syncs(store) is is_on


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_another_than_that_of_the_database_is_refused(path: Path, kind: Any, is_on: bool) -> None:
    with SynaDB(path, sync_on_write=is_on) as db:
        wanted = f"sync_on_write: it is that of the database .*, which has {is_on}, got {not is_on}"
        with pytest.raises(synadb.InvalidArgumentError, match=wanted) as caught:
            opened(kind, db, sync_on_write=not is_on)
        assert isinstance(caught.value, ValueError)
        with pytest.raises(TypeError, match="sync_on_write must be a bool, got 'int'"):
            opened(kind, db, sync_on_write=int(is_on))
        assert db.stats()["tables"] == {}
        with opened(kind, db) as store:
            assert syncs(store) is is_on
