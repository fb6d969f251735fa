"""`SynaDB`: typed values with history under string keys, in one file."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from synadb import _native

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["SynaDB"]

_NPY_MAGIC = b"\x93NUMPY"


class SynaDB(_native.Database):
    """A database file: typed values under string keys, each with its history.

    Opens or creates the file at `path` (`str`, `bytes` or `os.PathLike`, made absolute once).
    A key is 1 to 65,535 bytes of UTF-8. Every `put` appends to the key's history; `get` and the
    typed `get_*` read the newest value. An absent key reads as `None`; a value of another type
    raises `TypeMismatchError`. The handle may be used by any number of threads, lives on in a
    forked child, and pickles as its path and options.

    Parameters: with `sync_on_write` each write survives the machine's death before the call
    returns, without it the process's death. `config` is a `DbConfig` and overrides
    `sync_on_write`. `access` is `"shared"` (any number of processes write, each sees what the
    others have committed), `"exclusive"` (the one writer of the file) or `"read_only"` (beside
    any writer; `refresh()` moves to what was committed since). `lock_timeout` is how many seconds
    to wait for another process: for its closing a file that it has for itself (default 0), and in
    each write for its letting go of the write lock (default 5). `maintenance` is `"thread"` (a
    background thread for each file, started when needed), `"inline"` or `"off"`.
    `checkpoint_bytes` is how much log is written before the next checkpoint. `create=False`
    raises `DatabaseMissingError` for a missing file.

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

        Returns the offset of the record. Raises `ValueError` for arrays of Python objects.

        >>> import numpy as np, synadb
        >>> with synadb.SynaDB("arrays.db") as db:
        ...     _ = db.put_numpy("grid", np.arange(6, dtype=np.int16).reshape(2, 3))
        ...     db.get_numpy("grid")
        array([[0, 1, 2],
               [3, 4, 5]], dtype=int16)
        """
        import numpy as np

        target = BytesIO()
        np.lib.format.write_array(target, np.asanyarray(arr), allow_pickle=False)
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


def _raw_array(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    if dtype.hasobject:
        raise ValueError(f"bytes cannot be read as {dtype}")
    return np.frombuffer(data, dtype=dtype)
