"""Messages about arguments of a wrong type: the name, what it got, and what it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from synadb import SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMED: dict[str, tuple[Callable[[SynaDB, VectorStore], object], str]] = {
    "compact of a database": (
        lambda db, _: db.compact("yes"),  # type: ignore[arg-type]
        "skip_damaged must be a bool, got 'str'",
    ),
    "compact of a store": (
        lambda _, store: store.compact(1),  # type: ignore[arg-type]
        "skip_damaged must be a bool, got 'int'",
    ),
    "stats of a database": (
        lambda db, _: db.stats("x"),  # type: ignore[arg-type]
        "usage must be a bool, got 'str'",
    ),
    "stats of a store": (
        lambda _, store: store.stats(None),  # type: ignore[arg-type]
        "usage must be a bool, got 'NoneType'",
    ),
    "text for a share": (
        lambda db, _: SynaDB(db.path, auto_compact="0.5"),  # type: ignore[arg-type]
        "auto_compact must be a share of the log, a number above 0 and below 1, got 'str'",
    ),
    "bool for a share": (
        lambda db, _: SynaDB(db.path, auto_compact=True),
        "auto_compact must be a share of the log, a number above 0 and below 1, got 'bool'",
    ),
    "bool for a history": (
        lambda db, _: SynaDB(db.path, auto_compact_history="no"),  # type: ignore[arg-type]
        "auto_compact_history must be a bool, got 'str'",
    ),
    "bool for a time": (
        lambda db, _: SynaDB(db.path, lock_timeout=True),
        "lock_timeout must be a number of seconds, got 'bool'",
    ),
    "text for a time": (
        lambda db, _: VectorStore(db.path, lock_timeout="1"),  # type: ignore[arg-type]
        "lock_timeout must be a number of seconds, got 'str'",
    ),
    "number for syncing": (
        lambda db, _: SynaDB(db.path, 1),  # type: ignore[arg-type]
        "sync_on_write must be a bool, got 'int'",
    ),
    "text for a number of a build": (
        lambda _, store: store.build_index("hnsw", m="9"),  # type: ignore[arg-type]
        "argument 'm': 'str' object cannot be interpreted as an integer",
    ),
    "bool for a number of a build": (
        lambda _, store: store.build_index("cascade", num_probes=True),
        "argument 'num_probes': expected an integer, got 'bool'",
    ),
    "number for a preset": (
        lambda _, store: store.build_index("cascade", preset=3),  # type: ignore[arg-type]
        "argument 'preset': 'int' object is not an instance of 'str'",
    ),
    "unknown parameter of a build": (
        lambda _, store: store.build_index("cascade", links=3),  # type: ignore[call-arg]
        "build_index() got an unexpected keyword argument 'links'",
    ),
    "number for creating": (
        lambda db, _: SynaDB(db.path, create=0),  # type: ignore[arg-type]
        "create must be a bool, got 'int'",
    ),
}


@pytest.mark.parametrize("case", NAMED)
def test_message_names_the_argument_what_it_got_and_what_it_wants(path: Path, case: str) -> None:
    call, message = NAMED[case]
    with (
        SynaDB(path) as db,
        VectorStore(db, 2) as store,
        pytest.raises(TypeError) as caught,
    ):
        call(db, store)
    assert str(caught.value) == message
