"""`SynaDB`: typed values with history under string keys, in one file."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from synadb import _native
from synadb._progress import Report, reporting

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from synadb.reports import Stats

__all__ = ["SynaDB"]

_NPY_MAGIC = b"\x93NUMPY"


class SynaDB(_native.Database):
    """A database file: typed values under string keys, each with its history.

    Opens or creates the file at `path` (`str`, `bytes` or `os.PathLike`, made absolute once). Its
    checkpoint lies beside it, under its name and `-ckpt`; names that end so, or in `-tmp-` and 16
    hexadecimal digits, are kept for such files and refused with `InvalidPathError`.
    A key is 1 to 65,535 bytes of UTF-8. Every `put` appends to the key's history; `get` and the
    typed `get_*` read the newest value. An absent key reads as `None`; a value of another type
    raises `TypeMismatchError`. The handle may be used by any number of threads, lives on in a
    forked child, and pickles as its path and options.

    Parameters: with `sync_on_write` each write survives the machine's death before the call
    returns, without it the process's death, and the machine's once it is synced: that
    begins by itself `sync_interval` seconds later (default 30; never with 0), with all that came
    meanwhile, and sooner once a gibibyte was written. `config` is a `DbConfig` and overrides
    `sync_on_write`. `access` is `"shared"` (any number of processes write, each sees what the
    others have committed), `"exclusive"` (the one writer of the file) or `"read_only"` (beside
    any writer; `refresh()` moves to what was committed since). `lock_timeout` is how many seconds
    to wait for another process: for its closing a file that it has for itself (default 0), and in
    each write for its letting go of the write lock (default 5); at most ten years. `maintenance`
    is `"thread"` (background threads for each file, started when needed and joined by `close()`:
    one keeps the write lock between writes and gives it back when the file is idle, one syncs what
    is due), `"inline"` (no thread: each write gives the lock back, and writes the checkpoint and
    syncs when that is due) or `"off"` (the same, and neither but at close and on request); the
    first handle on a file decides.
    `checkpoint_bytes` is how much log is written before the next checkpoint. `create=False` raises
    `DatabaseMissingError` for a missing file.

    `auto_compact` has the file compacted without being asked; not at all without it. It is a share
    of the log, above 0 and below 1. Once the log has 4 MiB it is looked at behind a write of this
    process: where its dead bytes are that share of all its bytes, as `stats()` counts both in
    `dead_bytes` and `log_bytes`, it is compacted. Where they are not, the next look comes as soon
    as they could be, and 4 MiB at least could have died: because the log has grown so far, or so
    many keys were deleted, or so many commits have come that values may have been replaced. What is
    done is `compact(keep_history="live")`, which keeps the whole history of each live key; with
    `auto_compact_history=False` it is `compact()`, which keeps only the newest value, and older
    ones count as dead too. Look and compaction are the work of the background thread, with
    `maintenance="inline"` of the write behind which they come. One that fails, say on a full disk,
    leaves the file as it is, and the next look comes when the log is twice as long. Of several open
    handles that set it the newest decides. It is refused with `InvalidArgumentError` where nobody
    would do it: with `access="read_only"`, and with `maintenance="off"`, be it that of the first
    handle on the file.

    Raises `DatabaseLockedError`, `MissingDirectoryError`, `PathIsDirectoryError`,
    `NotADatabaseError`, `LegacyFormatError`, `CorruptionError`, and on every call after
    `close()` `DatabaseClosedError`.

    >>> import synadb
    >>> with synadb.SynaDB("sensors.db") as db:
    ...     _ = db.put_float("temperature", 21.5)
    ...     _ = db.put_float("temperature", 22.0)
    ...     _ = db.put("place", "roof")
    ...     print(db.get_float("temperature"), db["place"], db.keys())
    ...     print(db.get_history_tensor("temperature"))
    22.0 roof ['place', 'temperature']
    [21.5 22. ]
    """

    def put_numpy(self, key: str, arr: ArrayLike) -> int:
        """Stores an array with its dtype and shape, as bytes in NPY format without pickles.

        Returns the offset of the record. Raises `ValueError` for arrays of Python objects,
        `TypeError` for one of which a mask hides something.

        >>> import numpy as np, synadb
        >>> with synadb.SynaDB("arrays.db") as db:
        ...     _ = db.put_numpy("grid", np.arange(6, dtype=np.int16).reshape(2, 3))
        ...     db.get_numpy("grid")
        array([[0, 1, 2],
               [3, 4, 5]], dtype=int16)
        """
        import numpy as np

        array = np.asanyarray(arr)
        if array.dtype.hasobject:
            name = type(arr).__name__
            raise ValueError(f"arr: Object arrays cannot be stored, got '{name}' of {array.dtype}")
        if np.ma.is_masked(array):
            raise TypeError("arr: it has masked values; fill or compress it first")
        target = BytesIO()
        np.lib.format.write_array(target, array, allow_pickle=False)
        return self.put_bytes(key, target.getvalue())

    def get_numpy(
        self, key: str, dtype: DTypeLike | None = None, shape: tuple[int, ...] | None = None
    ) -> NDArray[Any] | None:
        """The array stored by `put_numpy`, or `None`.

        Given `dtype` and `shape` must be those of the stored array, but for a shape of the same
        size. Bytes that `put_numpy` did not write are read as `dtype` (float64 if not given).
        Raises `ValueError` for what does not fit, `TypeMismatchError` for a value that is no
        bytes.
        """
        import numpy as np

        data = self.get_bytes(key)
        if data is None:
            return None
        if data.startswith(_NPY_MAGIC):
            array = np.lib.format.read_array(BytesIO(data), allow_pickle=False)
            if dtype is not None and array.dtype != np.dtype(dtype):
                raise ValueError(f"key {key!r} holds {array.dtype}, asked for {np.dtype(dtype)}")
        else:
            array = _raw_array(data, np.dtype(np.float64 if dtype is None else dtype))
        return array if shape is None else array.reshape(shape)

    def stats(self, usage: bool = True) -> Stats:
        """Sizes and states of the open file, as a dict; `synadb.reports.Stats` explains each key.

        With `usage` it also tells which bytes of the log can still be read, in all, by type of
        value and by table: `live` of newest values, `history` of older ones, `dead` of what nothing
        gives any more. For this it walks the log, without a lock, while others read and write:
        O(records) time, about 0.7 s for a million, and up to 150 bytes of memory for each live key
        meanwhile. The rest takes some 0.1 ms. Raises `CorruptionError` where the walk meets damage;
        `usage=False` does not look.

        >>> import synadb
        >>> with synadb.SynaDB("usage.db") as db:
        ...     for text in ["old", "new"]:
        ...         _ = db.put("k", text * 100)
        ...     stats = db.stats()
        ...     stats["access"], stats["bytes_by_type"]
        ('shared', {'text': {'live': ..., 'history': ..., 'dead': 0}})
        """
        return super().stats(usage)

    def backup(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        progress: bool | Report | None = None,
    ) -> dict[str, Any]:
        """Copies the database, as of its newest commit, into a new file at `path`.

        Others may write meanwhile, through any handle, thread and process. The copy holds every
        commit with its history, is on the medium when this returns, and stands at `path` only once
        it is whole. It keeps the database's id.

        `progress=True` shows a bar; a function is called with the bytes that are done and all that
        there are, and cancels by returning `False`; any other answer, `None` and 0 too, goes on.
        Returns a dict with `bytes`. Raises `DatabaseExistsError`, and overwrites nothing, where
        `path` is taken; `CancelledError` where `progress` cancels. Then, and where `progress`
        raises, there is no copy and nothing is left behind.

        Ctrl-C ends the call as well, once it has tidied up; only where the copy is already being
        put in place is it too late. So after a `KeyboardInterrupt` the copy was not made, or was
        just made whole: then a note of the exception (`__notes__`, shown with the traceback) says
        so and gives the dict. A second Ctrl-C does not wait for that: the call may end either way
        behind it.

        >>> import synadb
        >>> with synadb.SynaDB("live.db") as db:
        ...     _ = db.put("k", 1)
        ...     _ = db.backup("copy.db")
        ...     _ = db.put("k", 2)
        >>> with synadb.SynaDB("copy.db") as copy:
        ...     copy.history("k")
        [1]
        """
        with reporting(progress, "backup") as report:
            return super().backup(path, report)

    def compact(
        self,
        skip_damaged: bool = False,
        *,
        keep_history: bool | Literal["live"] | None = False,
        progress: bool | Report | None = None,
    ) -> dict[str, Any]:
        """Rewrites the file without what is dead, while readers and writers go on.

        `keep_history` says what is kept of what was there at the beginning. `False`, or `None`: the
        newest value of each live key, so that `history` then gives that one. `"live"`: the whole
        history of each live key, so that `get`, `history`, `keys` and `version` answer as before;
        gone are deleted keys and what a key held before it was last deleted. `True`: every version
        of every key, deleted ones too. Of vectors the first two keep the one that a key has, and
        searches answer as before. Whatever is kept keeps its sequence number, and what any process
        commits meanwhile is kept with every version. Unless `True`, it is forgotten what became of
        keys that have no value: see `batch` for what that means to `expect`.

        Arrays that were handed out before stay valid; other processes go on in the new file by
        themselves. Takes time and, until it is done, as much space beside the file as the data that
        is kept; only its last step holds the write lock.

        `progress` and Ctrl-C are as for `backup`: a compaction that is cancelled, or interrupted
        before its last step, removes its new file and leaves the database byte for byte as the
        other writers have it. Returns a dict: `bytes_before` and `bytes_after` of log, and
        `skipped`, a list of dicts with `offset` and `reason`. A damaged record raises
        `CorruptionError`, and the database stays as it is. With `skip_damaged` that record is not
        carried over and so lost for good: its key has the newest version that is whole, and without
        one no value. Raises `DatabaseLockedError` where another compaction of the file, or a writer
        in the last step, takes longer than `lock_timeout`; `UnsupportedError` where the file has
        hard links or another one was put in its place; `CancelledError`, `ReadOnlyError`,
        `DiskFullError`.

        >>> import synadb
        >>> with synadb.SynaDB("log.db") as db:
        ...     for step in range(100):
        ...         _ = db.put("loss", 1 / (step + 1))
        ...     report = db.compact()
        ...     db.history("loss"), report["bytes_after"] < report["bytes_before"]
        ([0.01], True)
        """
        with reporting(progress, "compact") as report:
            return super().compact(skip_damaged, keep_history=keep_history, progress=report)

    def verify(self, progress: bool | Report | None = None) -> dict[str, Any]:
        """Reads every byte of the file against its checksums and reports what is damaged.

        `progress` is as for `backup`. Returns a dict: `ok`, `bytes` that were checked, and
        `damage`, a list of dicts with `offset` and `reason`. Raises `CancelledError`.
        """
        with reporting(progress, "verify") as report:
            return super().verify(report)

    @staticmethod
    def repair(
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        to: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        progress: bool | Report | None = None,
    ) -> dict[str, Any]:
        """Saves all that is whole in the damaged file `path` into a new database at `to`.

        For a file that raises `CorruptionError`, whether opened or read. It is not changed. Kept is
        each record that a checksum vouches for, values and vectors, with its place in the history
        of its key. Where a version is lost, the one before it appears; where a delete is lost, what
        it deleted appears again. The new file was checked before it stands at `to`.

        Returns a dict: `bytes_read`; `bytes_written`; `kept`, the number of records by table;
        `lost`, a list of dicts with `offset`, `bytes` and `reason`, the `table` and `key` where
        they can be read, or `None`, and `certain`, whether a checksum vouches for these two.
        `progress` is as for `backup`. Raises `DatabaseExistsError` where `to` is taken,
        `DatabaseLockedError` while `path` is open for writing, `CorruptionError` where both copies
        of the header are damaged and no checkpoint stands beside the file, `CancelledError`.

        >>> import pathlib, synadb
        >>> with synadb.SynaDB("damaged.db") as db:
        ...     _ = db.put("a", b"good")
        ...     _ = db.put("b", b"rotten")
        >>> data = pathlib.Path("damaged.db").read_bytes()
        >>> _ = pathlib.Path("damaged.db").write_bytes(data.replace(b"rotten", b"cotton"))
        >>> report = synadb.SynaDB.repair("damaged.db", to="repaired.db")
        >>> [place["key"] for place in report["lost"]]
        ['b']
        >>> with synadb.SynaDB("repaired.db") as db:
        ...     db.keys()
        ['a']
        """
        with reporting(progress, "repair") as report:
            return _native.repair(path, to, report)


def _raw_array(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    if dtype.hasobject:
        raise ValueError(f"bytes cannot be read as {dtype}")
    return np.frombuffer(data, dtype=dtype)
