"""What `stats()` and `recovery()` return: dicts whose keys and types these classes name."""

from __future__ import annotations

from typing import TypedDict

__all__ = [
    "ByteCounts",
    "HybridRecall",
    "HybridStats",
    "MeasuredRecall",
    "Recovery",
    "Stats",
    "StoreStats",
    "TableBytes",
]


class Recovery(TypedDict):
    """What opening the file found; offsets are bytes from the start of the file."""

    tail: int
    """Where the log ended."""
    replayed_from: int
    """Where reading it began: behind the checkpoint, or at the first commit."""
    commits_replayed: int
    torn: bool
    """Whether something behind the tail was no whole commit, or followed what was none."""
    commits_dropped: int
    """Whole commits in what was dropped."""
    bytes_dropped: int
    dropped_from: int
    dropped_to: int
    needs_recovery: bool
    """Whether what is torn is still there, because the handle only reads."""


class ByteCounts(TypedDict):
    """Bytes of records with all that they hold, in the log and in extents."""

    live: int
    """Of the newest values of keys that are not deleted."""
    history: int
    """Of older values that `history()` still gives."""
    dead: int
    """That nothing gives any more: deleted values, records of deletion, replaced vectors."""


class TableBytes(ByteCounts):
    """The bytes of one table."""

    reserved: int
    """In extents, and taken by no commit: free for vectors to come, or given up."""
    types: dict[str, ByteCounts]
    """By type of value; see `Stats.bytes_by_type`."""


class _Usage(TypedDict, total=False):
    """What `stats(usage=False)` leaves out."""

    live_bytes: int
    history_bytes: int
    dead_bytes: int
    reserved_bytes: int
    overhead_bytes: int
    """First pages of the file, catalogue, heads of commits with several records, padding.

    With the four before it, it makes up `log_bytes`, but for what others commit meanwhile.
    """
    bytes_by_type: dict[str, ByteCounts]
    """By "null", "float", "int", "text", "bytes", "vector", and "delete" for the records of
    deletions; types that do not occur are left out."""
    bytes_by_table: dict[str, TableBytes]


class Stats(_Usage):
    """Sizes and states of an open file. Sizes are in bytes."""

    file_bytes: int
    """The file, with the space in reserve behind the log."""
    log_bytes: int
    tail_bytes: int
    """Log behind the last checkpoint, whoever wrote it: what the next opening reads."""
    checkpoint_age: float | None
    """Seconds since that checkpoint was written, `None` where there is none."""
    synced_bytes: int
    """Where what is known to be on the medium ends."""
    sequence: int
    """Number of the last commit."""
    generation: int
    """How many times the file was compacted."""
    access: str
    """"shared", "exclusive" or "read_only"."""
    region: str
    """What the log lies in: "disk", a file that is mapped, or "memory"."""
    handles: int
    """Open handles of this process on the file, each `SynaDB` and `VectorStore`, readers too."""
    filter_bytes: int
    """Memory of this process that keys of vectors take for filters: 0 until a second pattern or
    test has looked at all keys of a table. That of an index is in `index_stats()`."""
    tables: dict[str, int]
    """Live keys of each table."""
    needs_recovery: bool
    recovery: Recovery


class MeasuredRecall(TypedDict):
    """What a sample says of the recall of searches."""

    recall: float
    """Share of the `k` nearest that they find, 0 to 1; 1 where every search is exact."""
    k: int
    queries: int
    """How many were tried; none where every search is exact."""


class StoreStats(Stats, total=False):
    """What a vector store adds."""

    recall: MeasuredRecall
    """Only with `stats(recall=True)`."""


class HybridRecall(TypedDict):
    """The recall of each table."""

    hot: MeasuredRecall
    cold: MeasuredRecall


class HybridStats(Stats, total=False):
    """What a `HybridVectorStore` adds."""

    recall: HybridRecall
    """Only with `stats(recall=True)`."""
