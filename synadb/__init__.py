"""Embedded database for AI data: typed values with history, and exact vector search, in a file.

>>> import synadb
>>> with synadb.SynaDB("package.db") as db:
...     _ = db.put("name", "Ada")
...     db["name"]
'Ada'

Importing this package does not import numpy; the first call that needs an array does.
"""

from synadb._native import Batch, KeyFilter, SearchResult, Transaction
from synadb.cascade import CascadeIndex, CascadeSearchResult
from synadb.config import DbConfig
from synadb.database import SynaDB
from synadb.errors import (
    BatchTooLargeError,
    CancelledError,
    ConfigMismatchError,
    ConflictError,
    CorruptionError,
    DatabaseClosedError,
    DatabaseExistsError,
    DatabaseLockedError,
    DatabaseMissingError,
    DimensionError,
    DiskFullError,
    EmptyKeyError,
    InvalidArgumentError,
    InvalidPathError,
    InvalidVectorError,
    KeyNotFoundError,
    KeyTooLongError,
    LegacyFormatError,
    MissingDirectoryError,
    NotADatabaseError,
    PathIsDirectoryError,
    PoisonedError,
    ReadOnlyError,
    StorageError,
    SynaError,
    TypeMismatchError,
    UnsupportedError,
    UnsupportedFormatError,
    ValueTooLargeError,
)
from synadb.gravity_well import GravityWellIndex, GwiSearchResult
from synadb.hybrid import HybridSearchResult, HybridVectorStore
from synadb.mmap_store import MmapSearchResult, MmapVectorStore
from synadb.vectors import VectorStore

__version__ = "2.0.0a1"

__all__ = [
    "Batch",
    "BatchTooLargeError",
    "CancelledError",
    "CascadeIndex",
    "CascadeSearchResult",
    "ConfigMismatchError",
    "ConflictError",
    "CorruptionError",
    "DatabaseClosedError",
    "DatabaseExistsError",
    "DatabaseLockedError",
    "DatabaseMissingError",
    "DbConfig",
    "DimensionError",
    "DiskFullError",
    "EmptyKeyError",
    "GravityWellIndex",
    "GwiSearchResult",
    "HybridSearchResult",
    "HybridVectorStore",
    "InvalidArgumentError",
    "InvalidPathError",
    "InvalidVectorError",
    "KeyFilter",
    "KeyNotFoundError",
    "KeyTooLongError",
    "LegacyFormatError",
    "MissingDirectoryError",
    "MmapSearchResult",
    "MmapVectorStore",
    "NotADatabaseError",
    "PathIsDirectoryError",
    "PoisonedError",
    "ReadOnlyError",
    "SearchResult",
    "StorageError",
    "SynaDB",
    "SynaError",
    "Transaction",
    "TypeMismatchError",
    "UnsupportedError",
    "UnsupportedFormatError",
    "ValueTooLargeError",
    "VectorStore",
    "__version__",
]
