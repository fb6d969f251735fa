"""Configuration of a database."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DbConfig"]


@dataclass(frozen=True, slots=True)
class DbConfig:
    """What `SynaDB(path, config=...)` takes; its three fields never grow.

    `enable_compression` packs text and bytes where that makes them smaller. `enable_delta` is
    accepted and changes nothing that can be read. `sync_on_write` makes each write survive the
    machine's death, not only the process's, before the call returns.

    >>> import synadb
    >>> config = synadb.DbConfig(enable_compression=True, sync_on_write=False)
    >>> with synadb.SynaDB("config.db", config=config) as db:
    ...     _ = db.put_text("note", "again and " * 100)
    ...     len(db.get_text("note") or "")
    1000
    """

    enable_compression: bool = False
    enable_delta: bool = False
    sync_on_write: bool = True
