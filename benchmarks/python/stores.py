"""One small adapter a key-value store: the same five acts in each store's own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

LMDB_MAP_BYTES = 1 << 32


class Store(Protocol):
    """What a workload asks of a store; keys and values are texts, or bytes where it takes them."""

    takes_bytes: bool
    put: Callable[[Any, Any], Any]
    get: Callable[[Any], Any]

    def put_many(self, items: dict[Any, Any]) -> None:
        """Store a batch as one commit."""

    def close(self) -> None:
        """Close the store."""


class Ours:
    """synadb of this repository."""

    takes_bytes = False

    def __init__(self, folder: Path, sync: bool) -> None:
        self.database = import_module("synadb").SynaDB(folder / "data.db", sync_on_write=sync)
        self.put = self.database.put_text
        self.get = self.database.get_text

    def put_many(self, items: dict[str, str]) -> None:
        self.database.put_many(items)

    def close(self) -> None:
        self.database.close()


class Original:
    """synadb 1.1.1, which has no batch of texts."""

    takes_bytes = False

    def __init__(self, folder: Path, sync: bool) -> None:
        package = import_module("synadb")
        assert package.__version__ == "1.1.1", package.__file__
        self.database: Any = package.SynaDB(str(folder / "data.db"), sync_on_write=sync)
        self.put = self.database.put_text
        self.get = self.database.get_text

    def put_many(self, items: dict[str, str]) -> None:
        for key, text in items.items():
            self.put(key, text)

    def close(self) -> None:
        self.database.close()


class Sqlite:
    """A table of two columns in WAL mode; synchronous FULL or OFF."""

    takes_bytes = False

    def __init__(self, folder: Path, sync: bool) -> None:
        self.connection = sqlite3.connect(folder / "data.db", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'OFF'}")
        self.connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID")

    def put(self, key: str, text: str) -> None:
        self.connection.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, text))

    def get(self, key: str) -> Any:
        return self.connection.execute("SELECT v FROM t WHERE k = ?", (key,)).fetchone()[0]

    def put_many(self, items: dict[str, str]) -> None:
        self.connection.execute("BEGIN")
        self.connection.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", items.items())
        self.connection.execute("COMMIT")

    def close(self) -> None:
        self.connection.close()


class Lmdb:
    """LMDB, one transaction a call, so that a get sees the latest commit; without sync NOSYNC."""

    takes_bytes = True

    def __init__(self, folder: Path, sync: bool) -> None:
        options = {"map_size": LMDB_MAP_BYTES, "sync": sync, "metasync": sync}
        self.environment = import_module("lmdb").open(str(folder / "data.lmdb"), **options)

    def put(self, key: bytes, value: bytes) -> None:
        with self.environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def get(self, key: bytes) -> Any:
        with self.environment.begin() as transaction:
            return transaction.get(key)

    def put_many(self, items: dict[bytes, bytes]) -> None:
        with self.environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key, value)

    def close(self) -> None:
        self.environment.close()


class LmdbSnapshot(Lmdb):
    """LMDB with one read transaction for all gets: they see what was there at the first."""

    def __init__(self, folder: Path, sync: bool) -> None:
        super().__init__(folder, sync)
        self.reader: Any = None

    def get(self, key: bytes) -> Any:
        self.reader = self.environment.begin()
        self.get = self.reader.get
        return self.get(key)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.abort()
        super().close()


class Rocks:
    """RocksDB by rocksdict, raw mode, write-ahead log on; sync as asked."""

    takes_bytes = True

    def __init__(self, folder: Path, sync: bool) -> None:
        self.package = import_module("rocksdict")
        self.database = self.package.Rdict(
            str(folder / "data.rocks"), options=self.package.Options(raw_mode=True)
        )
        self.options = self.package.WriteOptions()
        self.options.sync = sync
        self.database.set_write_options(self.options)
        self.put = self.database.__setitem__
        self.get = self.database.__getitem__

    def put_many(self, items: dict[bytes, bytes]) -> None:
        batch = self.package.WriteBatch(raw_mode=True)
        for key, value in items.items():
            batch.put(key, value)
        self.database.write(batch, self.options)

    def close(self) -> None:
        self.database.close()


class Dict:
    """A dict: what one method call and one hash table allow. Nothing is on disk."""

    takes_bytes = False

    def __init__(self, folder: Path, sync: bool) -> None:
        del folder, sync
        self.items: dict[str, str] = {}
        self.put = self.items.__setitem__
        self.get = self.items.__getitem__
        self.put_many = self.items.update

    def close(self) -> None:
        self.items.clear()


STORES: dict[str, type[Any]] = {
    "synadb": Ours,
    "sqlite": Sqlite,
    "lmdb": Lmdb,
    "lmdb snapshot": LmdbSnapshot,
    "rocksdict": Rocks,
    "synadb 1.1.1": Original,
    "dict": Dict,
}
