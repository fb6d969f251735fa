"""The exception classes: codes, built-in bases, texts."""

from __future__ import annotations

import errno
import pickle
from typing import TYPE_CHECKING

import pytest

import synadb
from synadb import errors

if TYPE_CHECKING:
    from pathlib import Path

BASES: dict[str, tuple[int, type[Exception]]] = {
    "DatabaseClosedError": (-1, RuntimeError),
    "InvalidPathError": (-2, ValueError),
    "MissingDirectoryError": (-2, FileNotFoundError),
    "DatabaseMissingError": (-1, FileNotFoundError),
    "PathIsDirectoryError": (-2, IsADirectoryError),
    "DatabaseExistsError": (-2, FileExistsError),
    "StorageError": (-3, OSError),
    "DiskFullError": (-3, OSError),
    "ReadOnlyError": (-3, PermissionError),
    "NotADatabaseError": (-4, ValueError),
    "LegacyFormatError": (-4, ValueError),
    "UnsupportedFormatError": (-4, ValueError),
    "CorruptionError": (-4, Exception),
    "KeyNotFoundError": (-5, KeyError),
    "TypeMismatchError": (-6, TypeError),
    "EmptyKeyError": (-7, ValueError),
    "KeyTooLongError": (-8, ValueError),
    "ValueTooLargeError": (-9, ValueError),
    "BatchTooLargeError": (-9, ValueError),
    "DatabaseLockedError": (-10, Exception),
    "ConfigMismatchError": (-11, ValueError),
    "DimensionError": (-12, ValueError),
    "InvalidVectorError": (-13, ValueError),
    "InvalidArgumentError": (-14, ValueError),
    "PoisonedError": (-15, Exception),
    "UnsupportedError": (-16, Exception),
    "ConflictError": (-18, Exception),
    "CancelledError": (-19, Exception),
}


def test_every_class_of_the_module_is_listed() -> None:
    assert {*BASES, "SynaError"} == set(errors.__all__)


@pytest.mark.parametrize("name", BASES)
def test_class_is_a_syna_error_and_its_builtin(name: str) -> None:
    code, base = BASES[name]
    error = getattr(errors, name)(code, "what happened")
    assert isinstance(error, synadb.SynaError)
    assert isinstance(error, base)
    assert (error.code, error.message, str(error)) == (code, "what happened", "what happened")


@pytest.mark.parametrize("name", BASES)
def test_class_survives_pickling(name: str) -> None:
    error = getattr(errors, name)(BASES[name][0], "what happened")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, str(copy)) == (type(error), error.code, "what happened")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "Generic error"),
        (-1, "Database not found in registry"),
        (-2, "Invalid path or UTF-8"),
        (-3, "I/O error"),
        (-4, "Serialization error"),
        (-5, "Key not found"),
        (-6, "Type mismatch"),
        (-7, "Empty key not allowed"),
        (-8, "Key too long"),
        (-100, "Internal panic"),
        (-42, "Unknown error: -42"),
    ],
)
def test_default_text_is_the_originals(code: int, text: str) -> None:
    assert str(synadb.SynaError(code)) == text


def test_key_not_found_is_not_quoted_twice() -> None:
    assert str(errors.KeyNotFoundError(-5, "Key not found: a")) == "Key not found: a"


def test_missing_directory_has_its_errno(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        synadb.SynaDB(tmp_path / "no" / "a.db")
    assert caught.value.errno == errno.ENOENT
