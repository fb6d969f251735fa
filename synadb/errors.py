"""Exceptions of synadb: each is a `SynaError` and, where one fits, a built-in exception.

The engine names the class and the code of each of its errors; a caller catches as wide as it
likes: `KeyNotFoundError`, any `KeyError`, or every `SynaError`.

>>> import synadb
>>> with synadb.SynaDB("errors.db") as db:
...     try:
...         db["missing"]
...     except KeyError as error:
...         print(type(error).__name__, error.code)
KeyNotFoundError -5
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar

__all__ = [
    "BatchTooLargeError",
    "CancelledError",
    "ConfigMismatchError",
    "ConflictError",
    "CorruptionError",
    "DatabaseClosedError",
    "DatabaseExistsError",
    "DatabaseLockedError",
    "DatabaseMissingError",
    "DimensionError",
    "DiskFullError",
    "EmptyKeyError",
    "InvalidArgumentError",
    "InvalidPathError",
    "InvalidVectorError",
    "KeyNotFoundError",
    "KeyTooLongError",
    "LegacyFormatError",
    "MissingDirectoryError",
    "NotADatabaseError",
    "PathIsDirectoryError",
    "PoisonedError",
    "ReadOnlyError",
    "StorageError",
    "SynaError",
    "TypeMismatchError",
    "UnsupportedError",
    "UnsupportedFormatError",
    "ValueTooLargeError",
]


class SynaError(Exception):
    """Any failure of synadb.

    Attributes: `code`, a stable int (see `ERROR_CODES`); `message`, the text, which is also
    `str(error)`.

    >>> str(SynaError(-5))
    'Key not found'
    """

    ERROR_CODES: ClassVar[dict[int, str]] = {
        0: "Generic error",
        -1: "Database not found in registry",
        -2: "Invalid path or UTF-8",
        -3: "I/O error",
        -4: "Serialization error",
        -5: "Key not found",
        -6: "Type mismatch",
        -7: "Empty key not allowed",
        -8: "Key too long",
        -9: "Value too large",
        -10: "Database locked",
        -11: "Configuration mismatch",
        -12: "Wrong dimensions",
        -13: "Invalid vector",
        -14: "Invalid argument",
        -15: "Database poisoned",
        -16: "Not supported",
        -18: "Conflict",
        -19: "Cancelled",
        -100: "Internal panic",
    }

    code: int
    message: str

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code = code
        default = self.ERROR_CODES.get(code, f"Unknown error: {code}")
        self.message = default if message is None else message
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[SynaError], tuple[int, str]]:
        return type(self), (self.code, self.message)


class DatabaseClosedError(SynaError, RuntimeError):
    """A call on a handle that was closed."""


class InvalidPathError(SynaError, ValueError):
    """A path that no database can have: it names no file, or one beside another database."""


class _FileError(SynaError, OSError):
    """A `SynaError` that carries the `errno` of the built-in exception beside it."""

    _number: ClassVar[int | None] = None

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(code, message)
        self.errno = self._number


class MissingDirectoryError(_FileError, FileNotFoundError):
    """The folder in which the file is to be does not exist."""

    _number = _errno.ENOENT


class DatabaseMissingError(_FileError, FileNotFoundError):
    """There is no such file, and it was not to be created.

    Raised in a forked child, too, where the file of its parent's handle is no longer at its path.
    """

    _number = _errno.ENOENT


class PathIsDirectoryError(_FileError, IsADirectoryError):
    """The path of a database is a folder."""

    _number = _errno.EISDIR


class DatabaseExistsError(_FileError, FileExistsError):
    """There is something at the path of a file that was to be new; it was left as it is."""

    _number = _errno.EEXIST


class StorageError(_FileError):
    """The operating system refused to read or write the file."""


class DiskFullError(_FileError):
    """No space was left; nothing of the write is visible.

    `close()` does not raise it for want of space for a checkpoint, which only saves time.
    """

    _number = _errno.ENOSPC


class ReadOnlyError(_FileError, PermissionError):
    """A write through a handle, or to a file, that may only be read."""

    _number = _errno.EACCES


class NotADatabaseError(SynaError, ValueError):
    """The file is no database of synadb; it was left as it is."""


class LegacyFormatError(SynaError, ValueError):
    """The file was written by synadb 1.x; it was left as it is."""


class UnsupportedFormatError(SynaError, ValueError):
    """The file was written by a newer version of synadb, or by an unreleased one in format 0.

    This version cannot read it and left it as it is; the message says which of the two it is.
    """


class CorruptionError(SynaError):
    """Bytes of the file are not what was written; the message names the offset."""


class KeyNotFoundError(SynaError, KeyError):
    """There is no value under the key."""


class TypeMismatchError(SynaError, TypeError):
    """The value has another type than the one that was asked for; the message names both."""


class EmptyKeyError(SynaError, ValueError):
    """A key of no bytes."""


class KeyTooLongError(SynaError, ValueError):
    """A key of more than 65,535 bytes of UTF-8."""


class ValueTooLargeError(SynaError, ValueError):
    """A value beyond the limit of the format."""


class BatchTooLargeError(SynaError, ValueError):
    """More than one commit can hold."""


class DatabaseLockedError(SynaError):
    """Somebody else has what the call needs, and had it for longer than `lock_timeout`.

    The message says which of these it is, with the process id where it is known:

    - opening: another process has the file for itself (`access="exclusive"`), or, where this
      handle wants it for itself, has it open for writing; or one that is opening or closing the
      file does not get done with it;
    - a write: another process keeps the write lock, or a transaction of this process does;
    - `compact()`: the same in its last step, or another compaction of the file is under way;
    - `checkpoint()`: another process is writing one;
    - in a child of a process that has the file for itself: any write.
    """


class ConfigMismatchError(SynaError, ValueError):
    """The file has another configuration than the one asked for; the message names both."""


class DimensionError(SynaError, ValueError):
    """A vector of another length, or an array of another shape, than the call takes."""


class InvalidVectorError(SynaError, ValueError):
    """A vector with a component that is NaN or infinite."""


class InvalidArgumentError(SynaError, ValueError):
    """An argument that is refused; the message names it."""


class PoisonedError(SynaError):
    """An earlier sync failed: what the file holds is unknown until it is opened again."""


class UnsupportedError(SynaError):
    """A feature that this version does not have."""


class CancelledError(SynaError):
    """A long call that its `progress` function ended by returning `False`; it was not done.

    The database is as it was, and what the call had written of a new file is removed.
    """


class ConflictError(SynaError):
    """A key of the batch was changed since it was read; nothing of the batch was written.

    Also raised for a key without a value where a compaction dropped what became of it since then,
    so that whether it was changed is not known; the message says so. Read again and try again.
    """
