"""Fixtures of several test files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "a.db"


@pytest.fixture
def db(path: Path) -> Iterator[SynaDB]:
    """An empty database at `path`."""
    with SynaDB(path, sync_on_write=False) as database:
        yield database


@pytest.fixture
def store(path: Path) -> Iterator[VectorStore]:
    """An empty store of 8 dimensions at `path`."""
    with VectorStore(path, 8, sync_on_write=False) as vectors:
        yield vectors
